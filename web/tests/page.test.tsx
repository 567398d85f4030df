import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import axe from "axe-core";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { makeQueryClient } from "../src/api/queries";
import { App } from "../src/app";
import { at, climbed, event, machine, problem, running, Server } from "./server";

let server: Server;

beforeEach(() => {
  server = new Server();
});

function open(): ReturnType<typeof userEvent.setup> {
  const user = userEvent.setup();
  render(<App client={makeQueryClient()} />);
  return user;
}

async function accessible(): Promise<void> {
  const rules = { "color-contrast": { enabled: false } }; // jsdom has no layout; the browser test does
  const { violations } = await axe.run(document.body, { rules });
  expect(violations.map((v) => [v.id, v.nodes.map((n) => n.html)])).toEqual([]);
}

const live = () => waitFor(() => expect(screen.getByText("Live")).toBeTruthy());

describe("signing in", () => {
  beforeEach(() => {
    server.signedIn = false;
  });

  test("a wrong password is said, the right one opens the page", async () => {
    const user = open();
    await user.type(await screen.findByLabelText("Password"), "wrong");
    await user.click(screen.getByRole("button", { name: "Sign in" }));
    expect((await screen.findByRole("alert")).textContent).toContain("e-mail or password is wrong");
    await accessible();
    await user.clear(screen.getByLabelText("Password"));
    await user.type(screen.getByLabelText("Password"), "secret{Enter}");
    expect(await screen.findByRole("heading", { name: "Machines" })).toBeTruthy();
    expect(server.calls("POST", "/auth/login").at(-1)).toEqual({
      email: "owner@dumont.local",
      password: "secret",
    });
  });

  test("no token is kept where a script could read it", async () => {
    const user = open();
    await user.type(await screen.findByLabelText("Password"), "secret{Enter}");
    await screen.findByRole("heading", { name: "Machines" });
    expect(JSON.stringify(localStorage) + JSON.stringify(sessionStorage)).not.toContain("token");
    expect(document.cookie).toBe("");
  });
});

test("signing out is quiet, a session that ended is explained", async () => {
  const user = open();
  await live();
  await user.click(screen.getByRole("button", { name: "Sign out" }));
  expect(await screen.findByLabelText("Password")).toBeTruthy();
  expect(screen.queryByText(/session has ended/)).toBeNull();
  await user.type(screen.getByLabelText("Password"), "secret{Enter}");
  await live();
  server.signedIn = false;
  server.cut();
  expect(await screen.findByText(/session has ended/, {}, { timeout: 3000 })).toBeTruthy();
});

describe("machines", () => {
  test("a running one shows its price, its address and its workflow", async () => {
    server.machines = [running()];
    const user = open();
    const row = (await screen.findByRole("rowheader", { name: "my-box" })).closest("tr");
    const cells = within(row as HTMLElement);
    expect(cells.getByText("running")).toBeTruthy();
    expect(row?.textContent).toContain("$0.412/h");
    expect(row?.textContent).toContain("Sao Paulo, BR");
    const command = "ssh -p 40022 root@127.9.8.7";
    await user.click(cells.getByRole("button", { name: `Copy “${command}”` }));
    expect(await navigator.clipboard.readText()).toBe(command);
    const link = cells.getByRole("link", { name: /Workflow of my-box/ });
    expect(link.getAttribute("href")).toContain("http://127.0.0.1:8233/");
    await accessible();
  });

  test("without a clipboard the text stays there to be copied", async () => {
    server.machines = [running()];
    const user = open();
    const button = await screen.findByRole("button", { name: /^Copy/ });
    vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(new Error("no https"));
    await user.click(button);
    expect(await screen.findByText(/copy it yourself/)).toBeTruthy();
  });

  test("the ladder climbs as the stream tells it, and ends in an address", async () => {
    server.machines = [machine()];
    open();
    const ladder = await screen.findByRole("list", { name: "Readiness of my-box" });
    await live();
    expect(within(ladder).getAllByText("(to come)")).toHaveLength(5);
    server.send("machine", climbed(3));
    await waitFor(() => expect(within(ladder).getAllByText("(done)")).toHaveLength(3));
    expect(ladder.textContent).toContain("+3.0 s");
    expect(ladder.querySelector("[aria-current=step]")?.textContent).toContain("port accepts");
    await accessible();
    server.send("machine", running());
    await screen.findByText("ssh -p 40022 root@127.9.8.7");
    expect(screen.queryByRole("list", { name: "Readiness of my-box" })).toBeNull();
  });

  test("older news do not undo newer ones", async () => {
    server.machines = [running()];
    open();
    await live();
    server.send("machine", climbed(2));
    server.send("machine.ready", event(7, "seen after the old news"), 7);
    await screen.findByText("seen after the old news");
    expect(screen.getByText("running")).toBeTruthy();
  });

  test("a destroyed one leaves the list", async () => {
    server.machines = [running()];
    open();
    await screen.findByText("running");
    await live();
    server.send("machine", running({ phase: "destroyed", updated_at: at(90) }));
    expect(await screen.findByText("No machines yet.")).toBeTruthy();
  });

  test("a stuck one says why, and when it tries again", async () => {
    const soon = new Date(Date.now() + 120_500).toISOString();
    server.machines = [
      machine({ phase: "stuck", reason: "no RTX 4090 below $0.60/h", next_try_at: soon }),
    ];
    open();
    expect(await screen.findByText("no RTX 4090 below $0.60/h")).toBeTruthy();
    expect(screen.getByText("1 machine is stuck")).toBeTruthy();
    expect(screen.getByText("in 2 min.").closest("p")?.textContent).toBe("next try in 2 min.");
  });

  test("cost adds what is known and counts what is not", async () => {
    const unknown = running({ machine_id: "m2", name: "b" });
    server.machines = [
      running(),
      running({ machine_id: "m3", name: "c" }),
      { ...unknown, instance: { ...unknown.instance!, usd_per_hour: null } },
      machine({ machine_id: "m4", name: "d" }),
      running({ machine_id: "m5", name: "e", phase: "stuck", ssh: null, reason: "outbid" }),
    ];
    open();
    expect((await screen.findByTestId("cost")).textContent).toBe("$0.824");
    expect(screen.getByText("+ 2 prices unknown")).toBeTruthy();
    expect(screen.getByText("+ 1 still starting")).toBeTruthy();
    expect(screen.getByText("3 of 5")).toBeTruthy();
    const outbid = screen.getByRole("rowheader", { name: "e" }).closest("tr");
    expect(outbid?.textContent).toContain("$0.412/h when it runs");
  });

  test("none says how to begin; an error never looks like none", async () => {
    open();
    expect(await screen.findByText("No machines yet.")).toBeTruthy();
    await accessible();
  });

  test("an error is shown with its request, and can be tried again", async () => {
    server.machines = [running()];
    server.answers.set("GET /machines", () =>
      problem(500, "internal", "it broke", { request_id: "req-7" }),
    );
    const user = open();
    expect((await screen.findByRole("alert")).textContent).toContain("Request req-7");
    expect(screen.queryByText("No machines yet.")).toBeNull();
    server.answers.clear();
    await user.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("running")).toBeTruthy();
  });

  test("on a narrow screen they are cards with the same content", async () => {
    vi.stubGlobal("matchMedia", () => ({
      matches: false,
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    }));
    server.machines = [running()];
    open();
    expect(await screen.findByRole("heading", { name: "my-box" })).toBeTruthy();
    expect(screen.queryByRole("table")).toBeNull();
    expect(screen.getByText("ssh -p 40022 root@127.9.8.7")).toBeTruthy();
    await accessible();
  });
});

describe("starting", () => {
  test("asks for name, GPU and price, with the market's own figures", async () => {
    server.offers = [
      { gpu: "RTX 4090", gpu_count: 1, usd_per_hour: 0.35 },
      { gpu: "RTX 4090", gpu_count: 1, usd_per_hour: 0.31 },
      { gpu: "RTX 4090", gpu_count: 8, usd_per_hour: 0.1 },
      { gpu: "H100 SXM", gpu_count: 1, usd_per_hour: 2 },
    ];
    const user = open();
    await user.click(await screen.findByRole("button", { name: "Start a machine" }));
    const dialog = within(await screen.findByRole("dialog", { name: "Start a machine" }));
    expect(await dialog.findByText(/2 models on the market now, this one from \$0.310\/h/)).toBeTruthy();
    await accessible();
    await user.clear(dialog.getByLabelText("Name"));
    await user.type(dialog.getByLabelText("Name"), "trainer");
    await user.clear(dialog.getByLabelText("At most, $ per hour"));
    await user.type(dialog.getByLabelText("At most, $ per hour"), "0,45");
    await user.click(dialog.getByRole("button", { name: "Start" }));
    expect(await screen.findByRole("rowheader", { name: "trainer" })).toBeTruthy();
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(server.calls("POST", "/machines")).toEqual([
      { name: "trainer", requirement: { gpu: "RTX 4090", max_usd_per_hour: 0.45 } },
    ]);
  });

  test("an error stands at its field, and a repeat of the same wish is the same intent", async () => {
    server.answers.set("POST /machines", () =>
      problem(409, "conflict", "you have a machine my-box", { field: "name" }),
    );
    const user = open();
    await user.click(await screen.findByRole("button", { name: "Start a machine" }));
    const dialog = within(await screen.findByRole("dialog"));
    const submit = dialog.getByRole("button", { name: "Start" });
    await user.click(submit);
    const name = dialog.getByLabelText("Name");
    await waitFor(() => expect(name.getAttribute("aria-invalid")).toBe("true"));
    const note = document.getElementById(name.getAttribute("aria-describedby") ?? "");
    expect(note?.textContent).toBe("you have a machine my-box");
    await user.click(submit);
    await user.type(name, "2");
    await user.click(submit);
    await waitFor(() => expect(server.calls("POST", "/machines")).toHaveLength(3));
    const [first, second, third] = server.requests
      .filter((r) => r.method === "POST")
      .map((r) => r.headers.get("idempotency-key"));
    expect(first).toBe(second);
    expect(third).not.toBe(first);
  });

  test("without a stored SSH key it asks for one", async () => {
    server.sshKeys = [];
    const user = open();
    await user.click(await screen.findByRole("button", { name: "Start a machine" }));
    await user.type(await screen.findByLabelText("Public SSH key"), "ssh-ed25519 AAAA me");
    await user.click(screen.getByRole("button", { name: "Start" }));
    await waitFor(() => expect(server.calls("POST", "/machines")).toHaveLength(1));
    expect(server.calls("POST", "/machines")[0]).toMatchObject({ ssh_keys: ["ssh-ed25519 AAAA me"] });
  });
});

describe("destroying", () => {
  test("needs the name, typed, and gives the focus back", async () => {
    server.machines = [running()];
    const user = open();
    const opener = await screen.findByRole("button", { name: "Destroy my-box" });
    await user.click(opener);
    const dialog = within(await screen.findByRole("dialog", { name: "Destroy my-box?" }));
    await accessible();
    const confirm = dialog.getByRole("button", { name: "Destroy for good" }) as HTMLButtonElement;
    expect(confirm.disabled).toBe(true);
    await user.type(dialog.getByLabelText("Type my-box to confirm"), "my-bo{Enter}");
    expect(server.calls("DELETE", "/machines/m000000000001")).toHaveLength(0);
    await user.keyboard("{Escape}");
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
    await waitFor(() => expect(document.activeElement).toBe(opener));
    await user.click(opener);
    await user.type(await screen.findByLabelText("Type my-box to confirm"), "my-box{Enter}");
    expect(await screen.findByText("destroying")).toBeTruthy();
    expect(server.calls("DELETE", "/machines/m000000000001")).toHaveLength(1);
  });
});

describe("events", () => {
  test("begin with the past and go on live, newest first, each once", async () => {
    server.machines = [running()];
    server.events = [event(2, "second"), event(1, "first")];
    open();
    await screen.findByText("first");
    await live();
    server.send("provision.rung", event(3, "third"), 3);
    server.send("provision.rung", event(3, "third"), 3);
    await screen.findByText("third");
    const feed = screen.getByRole("list", { name: "What happened" });
    const order = within(feed).getAllByRole("listitem").map((li) => li.lastChild?.textContent);
    expect(order).toEqual(["third", "second", "first"]);
  });
});

describe("the connection", () => {
  test("comes back where it was, and reads again what it may have missed", async () => {
    server.machines = [machine()];
    open();
    await live();
    server.send("provision.rung", event(5, "five"), 5);
    await screen.findByText("five");
    const reads = server.calls("GET", "/machines").length;
    server.machines = [running()];
    server.cut();
    expect(await screen.findByText("running")).toBeTruthy();
    expect(server.calls("GET", "/machines").length).toBeGreaterThan(reads);
    const last = server.requests.filter((r) => r.path === "/events").at(-1);
    expect(last?.headers.get("last-event-id")).toBe("5");
    await live();
  });

  test("that is lost is said at once, and loudly when it lasts; the data stay", async () => {
    server.machines = [running()];
    open();
    await screen.findByText("running");
    await live();
    vi.useFakeTimers({ shouldAdvanceTime: true });
    server.down = true;
    server.cut();
    await waitFor(() => expect(screen.getByText("Reconnecting")).toBeTruthy());
    await vi.advanceTimersByTimeAsync(20_000);
    await waitFor(() => expect(screen.getByText(/^Stale since/)).toBeTruthy());
    expect(screen.getByText(/your machines go on/)).toBeTruthy();
    expect(screen.getByText("running")).toBeTruthy();
    server.down = false;
    screen.getByRole("button", { name: "Try now" }).click();
    await waitFor(() => expect(screen.getByText("Live")).toBeTruthy());
  });

  test("that falls silent is broken", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    open();
    await waitFor(() => expect(screen.getByText("Live")).toBeTruthy());
    expect(server.calls("GET", "/events")).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(26_000);
    await waitFor(() => expect(server.calls("GET", "/events").length).toBeGreaterThan(1));
  });
});

describe("language and theme", () => {
  test("Portuguese everywhere, remembered, with its own numbers", async () => {
    server.machines = [running()];
    const user = open();
    await screen.findByText("running");
    await user.selectOptions(screen.getByLabelText("Language"), "pt-BR");
    expect(await screen.findByText("rodando")).toBeTruthy();
    expect(document.documentElement.lang).toBe("pt-BR");
    expect(screen.getByTestId("cost").textContent?.replace(/\s/g, " ")).toBe("US$ 0,412");
    expect(localStorage.getItem("dumont.language")).toBe("pt-BR");
    await accessible();
  });

  test("the theme is the system's until one is chosen", async () => {
    const user = open();
    await user.selectOptions(await screen.findByLabelText("Theme"), "dark");
    expect(document.documentElement.dataset["theme"]).toBe("dark");
    await user.selectOptions(screen.getByLabelText("Theme"), "system");
    expect(document.documentElement.dataset["theme"]).toBeUndefined();
  });
});

test("the server's text is text", async () => {
  const evil = '<img src=x onerror="alert(1)">';
  server.machines = [machine({ phase: "stuck", reason: evil, workflow_url: "javascript:alert(1)" })];
  open();
  expect(await screen.findByText(evil)).toBeTruthy();
  expect(document.querySelector("a[href^=javascript]")).toBeNull();
});
