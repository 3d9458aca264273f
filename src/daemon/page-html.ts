// The status page's frame, which never changes: what is in it is made by page-script.ts of /status.json. Everything is loaded from
// where it came from, by paths that also work behind a proxy's prefix.

/** `{mark}` is replaced by a mark of the parts' content. */
export const PAGE_HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>blocksync replicate</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='2' width='9' height='9' rx='1.5' fill='%233b6fb6'/%3E%3Crect x='6' y='6' width='9' height='9' rx='1.5' fill='%238fb3e0'/%3E%3C/svg%3E">
<link rel="stylesheet" href="page.css?{mark}">
<script src="page.js?{mark}" defer></script>
</head>
<body>
<header>
  <h1>blocksync <span>replicate</span></h1>
  <p id="host"></p>
  <p id="answer">Asking the daemon.</p>
</header>
<main>
  <p id="gone" role="alert" hidden></p>
  <ul id="summary" aria-label="Summary"></ul>
  <table id="jobs" role="table" hidden>
    <caption class="quiet">Jobs, those that need somebody first</caption>
    <thead>
      <tr role="row">
        <th role="columnheader" scope="col">Job</th>
        <th role="columnheader" scope="col">State</th>
        <th role="columnheader" scope="col">Lag</th>
        <th role="columnheader" scope="col" class="number">Generation</th>
        <th role="columnheader" scope="col">Last success</th>
        <th role="columnheader" scope="col">Next run</th>
        <th role="columnheader" scope="col" class="number">Last sent</th>
        <th role="columnheader" scope="col" class="number">Took</th>
      </tr>
    </thead>
  </table>
  <p id="none" hidden>No job is configured.</p>
</main>
<footer>
  <p><span id="daemon"></span> <a href="status.json">status.json</a> <a href="metrics">metrics</a></p>
  <noscript><p>This page is drawn by a script. Without one: status.json and metrics have the same.</p></noscript>
</footer>
</body>
</html>
`
