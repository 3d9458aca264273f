// How the status page looks: light and dark, wide and narrow. A state is told by its word and its shape; colour only repeats it.

export const PAGE_STYLE = `
:root {
  --ground: #f7f7f5; --sheet: #ffffff; --ink: #1d2126; --soft: #5d6570; --line: #e1e2de; --rule: #c9cbc6;
  --good: #2a7a4b; --late: #9a6200; --bad: #b3261e; --idle: #6b7280; --busy: #2f64ad;
  --late-tint: #fdf5e4; --bad-tint: #fcecea; --track: #e8e9e5; --area: #2f64ad1f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14161a; --sheet: #1b1e23; --ink: #e4e6ea; --soft: #9aa3af; --line: #2b2f36; --rule: #41464f;
    --good: #6cc08b; --late: #e0ac4f; --bad: #f28b82; --idle: #9aa3af; --busy: #83b0ec;
    --late-tint: #2a241a; --bad-tint: #2d1e1e; --track: #2d3138; --area: #83b0ec2b;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; }
body {
  margin: 0; padding: 0 clamp(12px, 3vw, 40px) 32px; background: var(--ground); color: var(--ink);
  font: 14px/1.45 system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
header, main, footer { max-width: 1180px; margin: 0 auto; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 16px; padding: 22px 0 14px; }
h1 { margin: 0; font-size: 19px; font-weight: 650; letter-spacing: -0.01em; }
h1 span { font-weight: 400; color: var(--soft); }
header p { margin: 0; color: var(--soft); }
#host { color: var(--ink); }
#answer { margin-left: auto; }
[hidden] { display: none !important; }
.quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
#gone {
  margin: 0 0 14px; padding: 10px 14px; border: 1px solid var(--bad); border-left-width: 5px; border-radius: 4px;
  background: var(--bad-tint); color: var(--ink); font-weight: 600;
}
#summary { display: flex; flex-wrap: wrap; gap: 6px 22px; margin: 0 0 12px; padding: 0; list-style: none; }
#none { padding: 40px; text-align: center; color: var(--soft); background: var(--sheet); border: 1px solid var(--line); }

table { width: 100%; border-collapse: collapse; text-align: left; }
th, td { padding: 8px 12px; vertical-align: top; }
th { font-weight: 500; color: var(--soft); font-size: 12.5px; }
.number { text-align: right; }
#jobs { background: var(--sheet); border: 1px solid var(--line); border-radius: 6px; border-spacing: 0; border-collapse: separate; }
#jobs > thead th { border-bottom: 1px solid var(--rule); white-space: nowrap; }
#jobs > tbody + tbody > tr:first-child > * { border-top: 1px solid var(--line); }
#jobs > tbody > tr.row > * { white-space: nowrap; }
#jobs > tbody > tr.row > .job { white-space: normal; }
.stale #jobs, .stale #summary { opacity: 0.7; }
th.job { font-size: 14px; font-weight: 600; color: var(--ink); min-width: 9em; }
.job button {
  display: flex; gap: 8px; align-items: baseline; width: 100%; margin: -4px -6px; padding: 4px 6px; border: 0; border-radius: 4px;
  background: none; color: inherit; font: inherit; text-align: left; cursor: pointer; overflow-wrap: anywhere;
}
.job button:hover { background: var(--track); }
.job button::before {
  content: ""; flex: none; width: 6px; height: 6px; border: solid var(--soft); border-width: 0 1.5px 1.5px 0;
  transform: translateY(-2px) rotate(-45deg); transition: transform 0.12s;
}
.job button[aria-expanded="true"]::before { transform: translateY(-4px) rotate(45deg); }
:focus-visible { outline: 2px solid var(--busy); outline-offset: 2px; }
td.lag { min-width: 9.5em; }

.mark { display: inline-flex; align-items: baseline; gap: 7px; white-space: nowrap; }
.mark::before { content: ""; flex: none; width: 9px; height: 9px; background: currentColor; }
.mark.good, .mark.idle, .mark.busy, .mark.late, .mark.bad { --own: var(--good); }
.mark.idle { --own: var(--idle); } .mark.busy { --own: var(--busy); } .mark.late { --own: var(--late); } .mark.bad { --own: var(--bad); }
.mark::before { background: var(--own); border-radius: 50%; }
.mark.idle::before { border-radius: 0; clip-path: polygon(10% 0, 38% 0, 38% 100%, 62% 100%, 62% 0, 90% 0, 90% 100%, 10% 100%); }
.mark.busy::before { border-radius: 0; clip-path: polygon(12% 0, 100% 50%, 12% 100%); }
.mark.none::before { border: 1.5px solid var(--idle); background: none; }
.mark.late::before { border-radius: 0; clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.mark.bad::before { border-radius: 1px; }
.mark.late, .mark.bad { font-weight: 600; }

.meter { display: block; position: relative; height: 4px; margin-top: 5px; border-radius: 2px; background: var(--track); overflow: hidden; }
.meter i { display: block; height: 100%; border-radius: 2px; background: var(--good); }
.meter.late i { background: var(--late); } .meter.bad i { background: var(--bad); } .meter.busy i { background: var(--busy); }
.under { display: block; color: var(--soft); font-size: 12.5px; }
tr.running td { padding-top: 0; }
tr.running .meter { height: 6px; border-radius: 3px; margin: 2px 0 3px; }
tr.running .meter i { border-radius: 3px; }
tr.error td { padding-top: 0; }
.why {
  margin: 0; padding: 6px 10px; border-left: 3px solid var(--bad); background: var(--bad-tint);
  overflow-wrap: anywhere; white-space: pre-wrap; max-height: 9em; overflow-y: auto;
}
.why.late { border-color: var(--late); background: var(--late-tint); }
.why code { font-weight: 600; }
code, .path { font-family: ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: 12.5px; }

tr.detail > td { padding: 4px 12px 18px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0 0 12px; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0 0 14px; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: baseline; margin-bottom: 4px; color: var(--soft); }
figcaption strong { color: var(--ink); font-weight: 600; }
.spans { display: flex; gap: 2px; margin-left: auto; }
.spans button {
  padding: 1px 9px; border: 1px solid var(--line); border-radius: 3px; background: none; color: var(--soft);
  font: inherit; font-size: 12.5px; cursor: pointer;
}
.spans button:hover { border-color: var(--rule); color: var(--ink); }
.spans button[aria-pressed="true"] { border-color: var(--busy); color: var(--ink); font-weight: 600; }
svg { display: block; width: 100%; height: 190px; overflow: visible; }
svg text { fill: var(--soft); font-size: 11.5px; paint-order: stroke; stroke: var(--sheet); stroke-width: 3px; stroke-linejoin: round; }
svg .grid { stroke: var(--line); }
svg .base { stroke: var(--rule); }
svg .area { fill: var(--area); }
svg .lag { fill: none; stroke: var(--busy); stroke-width: 1.5; stroke-linejoin: round; }
svg .limit { stroke-width: 1.2; stroke-dasharray: 5 4; }
svg .limit.late { stroke: var(--late); } svg .limit.bad { stroke: var(--bad); }
svg text.late { fill: var(--late); } svg text.bad { fill: var(--bad); }
svg .fail { stroke: var(--bad); stroke-width: 1.8; }
.attempts { font-size: 13px; }
.attempts caption { text-align: left; padding: 0 0 2px; font-weight: 600; }
.attempts th, .attempts td { padding: 3px 14px 3px 0; border-top: 1px solid var(--line); }
.attempts thead th { border-top: 0; }
.attempts td { white-space: nowrap; }
.attempts .message { width: 62%; overflow-wrap: anywhere; white-space: normal; }
td.same { color: var(--soft); }
footer { padding-top: 14px; color: var(--soft); font-size: 12.5px; }
footer p { margin: 0; } footer a { color: inherit; margin-left: 12px; }

@media (max-width: 900px) {
  #answer { margin-left: 0; }
  #jobs, #jobs > tbody, #jobs > tbody > tr, #jobs > tbody > tr > * { display: block; width: auto; }
  #jobs { border: 0; background: none; }
  #jobs > thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  #jobs > tbody { background: var(--sheet); border: 1px solid var(--line); border-radius: 6px; margin-bottom: 10px; padding: 8px 12px; }
  #jobs > tbody + tbody > tr:first-child > * { border-top: 0; }
  #jobs > tbody > tr > * { padding: 0; }
  #jobs > tbody > tr.row { display: grid; grid-template-columns: 1fr 1fr; gap: 6px 16px; }
  #jobs > tbody > tr.row > * { white-space: normal; text-align: left; min-width: 0; }
  #jobs > tbody > tr.row > .job { grid-column: 1 / -1; }
  #jobs > tbody > tr.row > td::before { content: attr(data-name); display: block; color: var(--soft); font-size: 12px; }
  #jobs > tbody > tr.detail > td, #jobs > tbody > tr.error > td, #jobs > tbody > tr.running > td { padding: 8px 0 2px; }
  .facts { grid-template-columns: 1fr; } .facts dd { margin-bottom: 4px; }
  .attempts, .attempts tbody { display: block; }
  .attempts caption { display: block; }
  .attempts thead { display: none; }
  .attempts tbody tr { display: grid; grid-template-columns: 7.5em 1fr auto; border-top: 1px solid var(--line); padding: 5px 0; }
  .attempts tbody td { border: 0; padding: 0; }
  .attempts .wide, .attempts .message:empty { display: none; }
  .attempts .message { grid-column: 1 / -1; width: auto; color: var(--soft); }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (forced-colors: active) { .mark::before, .meter i { forced-color-adjust: none; } }
`
