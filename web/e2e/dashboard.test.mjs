// The dashboard as a person uses it, in a real browser, over a whole running stack. No canned data:
// every figure on the page is compared with what the API says.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ask, assertAccessible, launch, signIn, stack, visit } from "./browser.mjs";

const READY_MS = 120_000;
const pictures = process.env["DUMONT_PICTURES"];

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

async function picture(page, name) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}

async function startMachine(page, name, price = "1") {
  await page.getByRole("button", { name: "Start a machine" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill(name);
  await dialog.getByLabel("At most, $ per hour").fill(price);
  const key = dialog.getByLabel("Public SSH key");
  if (await key.isVisible()) await key.fill(process.env["DUMONT_PUBLIC_KEY"]);
  await dialog.getByRole("button", { name: "Start", exact: true }).click();
  await dialog.waitFor({ state: "hidden" });
  return page.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
}

describe("signing in", () => {
  test("a wrong password is refused in words, the right one opens the page", async () => {
    const { context, page, faults } = await visit(browser);
    await page.getByLabel("Password").fill("not the password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").getByText("e-mail or password is wrong").waitFor();
    await assertAccessible(page, "sign-in with an error");
    await signIn(page);
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, document.cookie]));
    assert.doesNotMatch(stored, /token|session/i, "no credential where a script can read it");
    assert.deepEqual(faults, []);
    await page.reload();
    await page.getByRole("heading", { name: "Machines" }).waitFor();
    await context.close();
  });

  test("a session that ended elsewhere leads back here, in words", async () => {
    const { context, page } = await visit(browser);
    await signIn(page);
    await page.evaluate(() => fetch("/api/v1/auth/logout", { method: "POST" }));
    await page.getByRole("button", { name: "Start a machine" }).click();
    await page.getByText("Your session has ended").waitFor();
    assert.equal(await page.getByRole("dialog").count(), 0);
    await context.close();
  });

  test("signing out ends the session at the server", async () => {
    const { context, page } = await visit(browser);
    await signIn(page);
    const cookies = await context.cookies();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Password").waitFor();
    await context.addCookies(cookies);
    const again = await page.evaluate(async () => (await fetch("/api/v1/auth/me")).status);
    assert.equal(again, 401);
    await context.close();
  });
});

describe("a machine's life", () => {
  test("start, climb, connect, destroy; every figure is the API's", async () => {
    const { context, page, faults } = await visit(browser);
    await signIn(page);
    await picture(page, "empty");
    const row = await startMachine(page, "browser-box");
    await row.getByRole("list", { name: "Readiness of browser-box" }).waitFor();
    await picture(page, "starting");
    await row.getByText("running", { exact: true }).waitFor({ timeout: READY_MS });

    const machine = await ask(page, "/machines/browser-box");
    const { ssh, instance } = machine;
    await row.getByText(`ssh -p ${ssh.port} ${ssh.user}@${ssh.host}`, { exact: true }).waitFor();
    const shown = Number((await row.innerText()).match(/\$([\d.]+)\s*\/h/)?.[1]);
    assert.ok(Math.abs(shown - instance.usd_per_hour) < 0.0005, `${shown} is not the API's price`);
    const link = await row.getByRole("link", { name: /Workflow of browser-box/ }).getAttribute("href");
    assert.equal(link, machine.workflow_url);

    const all = (await ask(page, "/machines?limit=200")).items;
    const running = all.filter((m) => m.phase === "running");
    const cost = running.reduce((sum, m) => sum + (m.instance?.usd_per_hour ?? 0), 0);
    const total = Number((await page.getByTestId("cost").innerText()).replace("$", ""));
    assert.ok(Math.abs(total - cost) < 0.001, `${total} is not the sum of the API's prices, ${cost}`);
    const events = (await ask(page, "/machines/browser-box/events?limit=50")).items;
    const feed = page.getByRole("list", { name: "What happened" });
    for (const event of events) assert.ok(await feed.getByText(event.summary, { exact: true }).count());
    await picture(page, "running");

    if (process.env["DUMONT_SSH_KEY"]) {
      const said = execFileSync(
        "ssh",
        [
          "-i",
          process.env["DUMONT_SSH_KEY"],
          ...["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no"].flatMap((o) => ["-o", o]),
          "-o",
          "UserKnownHostsFile=/dev/null",
          "-p",
          String(ssh.port),
          `${ssh.user}@${ssh.host}`,
          "nvidia-smi -L",
        ],
        { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
      );
      assert.match(said, new RegExp(instance.gpu), "the command on the page opens the machine");
    }

    await row.getByRole("button", { name: "Destroy browser-box" }).click();
    const dialog = page.getByRole("dialog", { name: "Destroy browser-box?" });
    const confirm = dialog.getByRole("button", { name: "Destroy for good" });
    assert.ok(await confirm.isDisabled());
    await dialog.getByLabel("Type browser-box to confirm").fill("browser-box");
    await confirm.click();
    await row.getByText("destroying", { exact: true }).waitFor();
    await row.waitFor({ state: "detached", timeout: READY_MS });
    assert.equal((await ask(page, `/machines/${machine.machine_id}`)).phase, "destroyed");
    assert.deepEqual(faults, []);
    await context.close();
  });

  test("what others do appears by itself; what cannot be is said at its field", async () => {
    const { context, page, faults } = await visit(browser);
    await signIn(page);
    const other = await visit(browser);
    await signIn(other.page);
    const row = await startMachine(other.page, "too-cheap", "0.001");
    const here = page.getByRole("row").filter({ hasText: "too-cheap" });
    await here.getByText("stuck", { exact: true }).waitFor({ timeout: 30_000 });
    await here.getByText(/costs at most|no /).first().waitFor();

    await page.getByRole("button", { name: "Start a machine" }).click();
    const dialog = page.getByRole("dialog");
    for (const [label, value, words] of [
      ["Name", "my/box", /lower-case letters/],
      ["Name", "too-cheap", /exists already/],
      ["GPU", "RTX 9999", /unknown GPU/],
      ["At most, $ per hour", "0", /greater than 0/],
    ]) {
      await dialog.getByLabel("Name").fill("fine");
      await dialog.getByLabel("GPU").fill("RTX 4090");
      await dialog.getByLabel("At most, $ per hour").fill("0.5");
      await dialog.getByLabel(label).fill(value);
      await dialog.getByRole("button", { name: "Start", exact: true }).click();
      const faulty = dialog.getByLabel(label).and(dialog.locator("[aria-invalid=true]"));
      await faulty.waitFor();
      const note = await faulty.getAttribute("aria-describedby");
      assert.match(await page.locator(`[id="${note}"]`).innerText(), words);
    }
    await page.keyboard.press("Escape");
    await row.getByRole("button", { name: "Destroy too-cheap" }).click();
    await other.page.getByLabel("Type too-cheap to confirm").fill("too-cheap");
    await other.page.keyboard.press("Enter");
    await here.getByText("destroying", { exact: true }).waitFor();
    assert.deepEqual(faults, []);
    await other.context.close();
    await context.close();
  });
});

describe("the connection", { skip: !process.env["DUMONT_CLI"] && "the stack is not ours to break" }, () => {
  test("the API killed and back: said, kept, and live again without a reload", async () => {
    const { context, page } = await visit(browser);
    await signIn(page);
    await page.evaluate(() => Object.assign(globalThis, { sameDocument: true }));
    const status = execFileSync(process.env["DUMONT_CLI"], ["stack", "status", "--json"], {
      encoding: "utf8",
    });
    process.kill(JSON.parse(status).parts.api.process.pid, "SIGKILL");
    await page.getByText("Reconnecting").waitFor({ timeout: 10_000 });
    await page.getByRole("heading", { name: "Machines" }).waitFor();
    await page.getByText("Live", { exact: true }).waitFor({ timeout: 60_000 });
    assert.ok(await page.evaluate(() => globalThis.sameDocument));
    await context.close();
  });
});

describe("for everybody", () => {
  for (const [colorScheme, language, width, height] of [
    ["light", "en-US", 1350, 900],
    ["dark", "en-US", 1350, 900],
    ["light", "pt-BR", 390, 844],
    ["dark", "pt-BR", 390, 844],
    ["light", "en-US", 390, 844],
    ["dark", "pt-BR", 1350, 900],
  ]) {
    test(`axe and width: ${colorScheme}, ${language}, ${width} px`, async () => {
      const { context, page, faults } = await visit(browser, {
        colorScheme,
        locale: language,
        viewport: { width, height },
      });
      const en = language === "en-US";
      await page.getByRole("heading", { level: 1 }).waitFor();
      await assertAccessible(page, "sign-in");
      await page.getByLabel(en ? "Password" : "Senha").fill(stack.password);
      await page.getByLabel("E-mail").fill(stack.email);
      await page.keyboard.press("Enter");
      await page.getByText(en ? "Live" : "Ao vivo", { exact: true }).waitFor();
      await page.getByTestId("cost").waitFor();
      await page.getByRole("list", { name: en ? "What happened" : "O que aconteceu" }).or(
        page.getByText(en ? "Nothing yet." : "Nada ainda."),
      ).waitFor();
      await assertAccessible(page, "home");
      await picture(page, `home-${colorScheme}-${language}-${width}`);
      await page.getByRole("button", { name: en ? "Start a machine" : "Iniciar uma máquina" }).click();
      await page.getByRole("dialog").waitFor();
      await assertAccessible(page, "the dialog");
      await picture(page, `start-${colorScheme}-${language}-${width}`);
      assert.deepEqual(faults, []);
      await context.close();
    });
  }

  test("nothing moves while it loads, and little is fetched", async () => {
    const { context, page } = await visit(browser);
    await signIn(page);
    const fresh = await context.newPage();
    const requests = [];
    fresh.on("request", (request) => requests.push(request.url()));
    await fresh.goto(stack.url);
    await fresh.getByTestId("cost").waitFor();
    await fresh.getByRole("list", { name: "What happened" }).or(fresh.getByText("Nothing yet.")).waitFor();
    const shift = await fresh.evaluate(
      () =>
        new Promise((done) => {
          let sum = 0;
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) sum += entry.value;
          }).observe({ type: "layout-shift", buffered: true });
          requestAnimationFrame(() => requestAnimationFrame(() => done(sum)));
        }),
    );
    assert.ok(shift < 0.01, `layout shift ${shift}`);
    assert.ok(requests.length <= 18, requests.join("\n"));
    await context.close();
  });

  test("by keyboard alone: open, fill, cancel, and the focus comes back", async () => {
    const { context, page } = await visit(browser);
    await signIn(page);
    await page.keyboard.press("Tab");
    for (let i = 0; i < 20 && (await focused(page)) !== "Start a machine"; i++)
      await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Start a machine");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("keyboard-box");
    assert.match(await page.getByLabel("Name").inputValue(), /keyboard-box/);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    assert.equal(await focused(page), "Start a machine");
    await context.close();
  });

  test("the theme chosen holds before the first paint of the next visit", async () => {
    const { context, page } = await visit(browser, { colorScheme: "light" });
    await page.getByLabel("Theme").selectOption("dark");
    await page.goto(stack.url, { waitUntil: "commit" });
    const background = await page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => done(document.documentElement.dataset.theme))),
    );
    assert.equal(background, "dark");
    await context.close();
  });
});

async function focused(page) {
  return page.evaluate(() => document.activeElement?.textContent ?? "");
}
