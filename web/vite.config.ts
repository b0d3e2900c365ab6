// One script, one style sheet, under fixed names: the same two files are served, inlined in reports and read by the
// notebook widget. No hashes in names and no dates, so that a build of the same source is the same, byte for byte.
import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../src/transect/app/page",
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rollupOptions: {
      input: "src/main.tsx",
      preserveEntrySignatures: "strict", // the notebook widget imports the default export
      output: { format: "es", entryFileNames: "page.js", assetFileNames: "page[extname]" },
    },
  },
});
