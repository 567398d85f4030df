import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { compress } from "./build/compress.ts";

const api = process.env["DUMONT_API_URL"] ?? "http://127.0.0.1:8766";

export default defineConfig({
  plugins: [react(), tailwindcss(), compress()],
  build: {
    target: "es2022",
    // The policy allows no inline script and no data: URL but images.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  server: {
    // The API checks where a write comes from: to it, requests come from its own pages.
    proxy: { "/api": { target: api, changeOrigin: true, headers: { origin: api } } },
  },
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    unstubGlobals: true,
  },
});
