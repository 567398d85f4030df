import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Where the stack under test is, and how to log in there. */
export const stack = {
  url: need("DUMONT_URL"),
  email: need("DUMONT_EMAIL"),
  password: need("DUMONT_PASSWORD"),
  /** Process id of its API, when the tests may kill it. */
  pidOf: process.env["DUMONT_STATUS"],
};

function need(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set; tests/browser/test_dashboard.py sets it`);
  return value;
}

/** Debian's Chromium, without its own errands on the net. */
export async function launch() {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A fresh visitor, with everything the page does wrong noted. */
export async function visit(browser, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1350, height: 900 },
    locale: "en-US",
    ...options,
  });
  const page = await context.newPage();
  const faults = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== stack.url && url.protocol !== "data:" && url.protocol !== "blob:")
      faults.push(`request to ${url.origin}`);
  });
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/i.test(message.text())) faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.goto(stack.url);
  return { context, page, faults };
}

export async function signIn(page) {
  await page.getByLabel("Password").fill(stack.password);
  await page.getByLabel("E-mail").fill(stack.email);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Machines" }).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
}

/** axe finds nothing, and nothing is wider than the screen. */
export async function assertAccessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(
    (tags) => globalThis.axe.run(document, { runOnly: tags }),
    WCAG,
  );
  assert.deepEqual(
    violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" | ")}`),
    [],
    what,
  );
  const wide = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(wide, 0, `${what}: ${wide} px wider than the screen`);
}

/** What the API says, asked with the page's own session. */
export async function ask(page, path) {
  return page.evaluate(async (p) => (await fetch(`/api/v1${p}`)).json(), path);
}
