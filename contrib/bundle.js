// Makes the JavaScript of dist/ from src/: the library file by file, the program (dist/cli) in a few CommonJS pieces, since
// each file and each ES module costs start-up time. Types are not its business. See docs/decisions/0014-start-up.md.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'

import { build, transform } from 'esbuild'

const ROOT = join(import.meta.dirname, '..')
const SRC = join(ROOT, 'src')
const DIST = join(ROOT, 'dist')
const CLI = join(DIST, 'cli')
const TARGET = 'node20.19'

/** Looks for compiled parts beside itself and is rarely used: stays in node_modules. */
const NOT_BUNDLED = ['ssh2']

/** import() in CommonJS would start the loader of ES modules, which takes longer than what it loads. */
const NO_IMPORT = { 'dynamic-import': false }

/** The URL that a source file would have as a file of its own in dist/, whatever piece it ended up in. */
const URL_OF = `const urlInDist = (path) => require('node:url').pathToFileURL(require('node:path').join(__dirname, '..', path)).href`

/** Lets import.meta.url mean the same in a piece as in a file of its own, so that sources find their neighbours. */
const keepUrls = {
  name: 'keep-urls',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const inDist = relative(SRC, path).replace(/\.ts$/, '.js')
      const text = readFileSync(path, 'utf8')
      const contents = text.replaceAll('import.meta.url', `urlInDist(${JSON.stringify(inDist)})`)
      return { contents, loader: 'ts' }
    })
  },
}

/** `serve` is one piece, and `agent` shares none with the near end: they start at the far end of a connection. */
const FAR_ENDS = ['far', 'agent'].map((name) => join(SRC, 'cli', `${name}.js`))
const farApart = {
  name: 'far-apart',
  setup({ onResolve }) {
    onResolve({ filter: /\/(far|agent)\.js$/ }, ({ path, resolveDir }) =>
      FAR_ENDS.includes(join(resolveDir, path)) ? { path, external: true } : undefined,
    )
  },
}

/** What `replicate` and `check` need, and no other command comes to: a piece for them has it, with all else that they need. */
const REPLICATING = /^\.\/(replicate(-[a-z-]+)?|check)\.js$/
/** What they never come to. */
const MIGRATING = /^\.\/migrate(-engine|-flags)?\.js$/
const IN_CLI = join(SRC, 'cli')

/** Leaves imports of that name in src/cli to a file that another build makes, or that nobody comes to. */
function apart(filter) {
  return {
    name: 'apart',
    setup({ onResolve }) {
      onResolve({ filter }, ({ path, resolveDir, kind }) =>
        resolveDir === IN_CLI && kind === 'dynamic-import' ? { path, external: true } : undefined,
      )
    },
  }
}

const common = {
  absWorkingDir: ROOT,
  platform: 'node',
  target: TARGET,
  write: false,
  outdir: DIST,
  outbase: SRC,
}
/** Blanks are a quarter of what is to be parsed at every start; names stay, for the sake of stack traces. */
const asProgram = {
  ...common,
  bundle: true,
  minifyWhitespace: true,
  external: NOT_BUNDLED,
  legalComments: 'inline',
}

const inPieces = { ...asProgram, format: 'esm', splitting: true, chunkNames: 'cli/[name]-[hash]' }

/** esbuild shares code between pieces only as ES modules: so first those, then each of them as CommonJS. */
async function toCommonJs({ path, text }) {
  const { code } = await transform(text, {
    format: 'cjs',
    platform: 'node',
    target: TARGET,
    minifyWhitespace: true,
    supported: NO_IMPORT,
    banner: text.includes('urlInDist(') ? URL_OF : '',
  })
  return { path, text: code }
}

/** Files of another build by their names, which import one another; what is imported late stays out. */
function madeBefore(texts) {
  return {
    name: 'made-before',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^\.\// }, ({ path, kind }) =>
        kind === 'dynamic-import' ? { path, external: true } : { path, namespace: 'made' },
      )
      onLoad({ filter: /./, namespace: 'made' }, ({ path }) => ({ contents: texts.get(path), loader: 'js' }))
    },
  }
}

/** What a file of a build imports at once, and the file itself, by the names that they import one another by. */
function neededAtOnce(path, { outputs }, found = new Set()) {
  if (found.has(`./${basename(path)}`)) return found
  found.add(`./${basename(path)}`)
  for (const { path: next, kind, external } of outputs[path].imports)
    if (kind === 'import-statement' && external !== true) neededAtOnce(next, { outputs }, found)
  return found
}

/**
 * The agent in one file, since each takes half a millisecond, but for what opens disks: that is two thirds of it, and a migration
 * never asks for it. The pieces for it take from that one file what both need, so that a class is one class.
 */
async function agent() {
  const { outputFiles, metafile } = await build({
    ...inPieces,
    // names of its own: what is in them is not what another build's pieces of that name have
    chunkNames: 'cli/agent-[name]-[hash]',
    metafile: true,
    entryPoints: ['src/cli/agent.ts'],
    plugins: [keepUrls],
  })
  const texts = new Map(outputFiles.map(({ path, text }) => [`./${basename(path)}`, text]))
  const parts = [...neededAtOnce('dist/cli/agent.js', metafile)]
  const lines = parts.map((name, index) => `export * as part${index} from '${name}'`)
  const one = await build({
    ...asProgram,
    format: 'cjs',
    supported: NO_IMPORT,
    stdin: { contents: [...lines, `export * from './agent.js'`].join('\n'), resolveDir: CLI },
    entryNames: 'cli/agent',
    banner: { js: URL_OF },
    plugins: [madeBefore(texts)],
  })
  const late = outputFiles.filter(({ path }) => !parts.includes(`./${basename(path)}`))
  const pieces = await Promise.all(late.map(toCommonJs))
  const taken = (text) =>
    text.replaceAll(/require\("(\.\/[^"]+)"\)/g, (call, name) =>
      parts.includes(name) ? `require("./agent.js").part${parts.indexOf(name)}` : call,
    )
  return [...one.outputFiles, ...pieces.map(({ path, text }) => ({ path, text: taken(text) }))]
}

async function program() {
  const [near, replicating, far, agentFiles] = await Promise.all([
    build({
      ...inPieces,
      entryPoints: ['src/cli/main.ts'],
      plugins: [keepUrls, farApart, apart(REPLICATING)],
    }),
    build({
      ...inPieces,
      entryPoints: ['src/cli/replicate-near.ts'],
      plugins: [keepUrls, farApart, apart(MIGRATING)],
    }),
    build({
      ...asProgram,
      entryPoints: ['src/cli/far.ts'],
      // it is one piece, so it can be CommonJS at once; then also what it loads late from Node (zlib) is loaded late
      format: 'cjs',
      supported: NO_IMPORT,
      banner: { js: URL_OF },
      plugins: [keepUrls],
    }),
    agent(),
  ])
  const pieces = await Promise.all([...near.outputFiles, ...replicating.outputFiles].map(toCommonJs))
  const served = [...far.outputFiles, ...agentFiles].map(({ path, text }) => ({ path, text }))
  return [...pieces, ...served, { path: join(CLI, 'package.json'), text: '{ "type": "commonjs" }\n' }]
}

async function library() {
  const entryPoints = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.startsWith('cli/'))
    .map((path) => join('src', path))
  const made = await build({
    ...common,
    entryPoints,
    format: 'esm',
    sourcemap: true,
    sourcesContent: false,
  })
  return made.outputFiles.map(({ path, text }) => ({ path, text }))
}

/** Renamed into place, and only where it changed: a program that starts meanwhile reads the one or the other. */
function put({ path, text }) {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return 0
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(`${path}.new`, text, { mode: path === join(CLI, 'main.js') ? 0o755 : 0o644 })
  renameSync(`${path}.new`, path)
  return 1
}

const files = (await Promise.all([program(), library()])).flat()
const changed = files.map(put).reduce((sum, count) => sum + count, 0)
const made = new Set(files.map(({ path }) => path))
const stale = readdirSync(DIST, { recursive: true, encoding: 'utf8' })
  .map((path) => join(DIST, path))
  .filter((path) => /\.js(\.map)?$/.test(path) && !made.has(path))
for (const path of stale) rmSync(path)
process.stdout.write(`dist: ${files.length} files, ${changed} changed, ${stale.length} removed\n`)
