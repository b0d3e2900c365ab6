// One script, one style sheet, under fixed names: the same two files are served, inlined in reports and read
// by the notebook widget. No hashes in names and no dates, so that a build of the same source is the same,
// byte for byte.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** The licences of what ends up in the script, beside it. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_options, bundle) {
      const found = new Map<string, string>();
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === "chunk" ? Object.keys(chunk.modules) : []) {
          const root = /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
          if (!root || found.has(root) || !existsSync(`${root}/package.json`)) continue;
          const told = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
          const file = readdirSync(root).find((n) => /^licen[cs]e/i.test(n));
          const text = file ? readFileSync(`${root}/${file}`, "utf8").trim() : "";
          found.set(root, `${told.name} ${told.version} (${told.license})\n\n${text}\n`);
        }
      }
      this.emitFile({
        type: "asset",
        fileName: "licenses.txt",
        source: [...found.values()].sort().join(`\n${"-".repeat(72)}\n\n`),
      });
    },
  };
}

export default defineConfig({
  plugins: [licences()],
  build: {
    outDir: "../src/transect/page/built",
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2000,
    rollupOptions: {
      input: "src/main.tsx",
      preserveEntrySignatures: "strict", // the notebook widget imports the default export
      output: { format: "es", entryFileNames: "page.js", assetFileNames: "page[extname]" },
    },
  },
});
