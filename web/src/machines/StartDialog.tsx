import { useId, useMemo, useState, type ReactNode } from "react";
import { ApiError, intentKey } from "../api/client";
import { useOffers, useSshKeys, useStartMachine } from "../api/queries";
import type { OfferView } from "../api/schema";
import { useWords, type Words } from "../i18n";
import { Field } from "../ui/Field";
import { Modal } from "../ui/Modal";
import { FormProblem, sentenceOf } from "../ui/Problem";

/** The fields of this form, by the last part of the name the API gives them. */
const FIELDS = ["name", "gpu", "max_usd_per_hour", "ssh_keys"] as const;
type FieldName = (typeof FIELDS)[number];

/** Asks for a machine: a name, a GPU and the most it may cost. */
export function StartDialog(props: { taken: string[]; onClose(): void }): ReactNode {
  const { taken, onClose } = props;
  const words = useWords();
  const { t } = words;
  const [name, setName] = useState(() => freeName(taken));
  const [gpu, setGpu] = useState("RTX 4090");
  const [price, setPrice] = useState("0.60");
  const [key, setKey] = useState("");
  const intent = useIntent(JSON.stringify([name, gpu, price, key]));
  const offers = useOffers(true);
  const sshKeys = useSshKeys(true);
  const start = useStartMachine();
  const models = useMemo(() => cheapest(offers.data?.items ?? []), [offers.data]);
  const listId = useId();
  const needsKey = sshKeys.data?.length === 0;
  const field = fieldOf(start.error);
  const errorOf = (which: FieldName): string | undefined =>
    start.error && field === which ? sentenceOf(start.error, words) : undefined;

  const submit = (): void => {
    const body = {
      name: name.trim(),
      requirement: { gpu: gpu.trim(), max_usd_per_hour: Number(price.replace(",", ".")) },
      ...(needsKey && key.trim() ? { ssh_keys: [key.trim()] } : {}),
    };
    start.mutate({ body, intent }, { onSuccess: onClose });
  };
  return (
    <Modal open onClose={onClose} title={t("start.title")}>
      <form
        noValidate
        className="space-y-4"
        onSubmit={(event) => {
          event.preventDefault();
          if (!start.isPending) submit();
        }}
      >
        <Field
          autoComplete="off"
          error={errorOf("name")}
          help={t("start.nameHelp")}
          label={t("start.name")}
          onText={setName}
          spellCheck={false}
          value={name}
        />
        <Field
          autoComplete="off"
          error={errorOf("gpu")}
          help={marketHelp(words, offers, models, gpu)}
          label={t("start.gpu")}
          list={listId}
          onText={setGpu}
          value={gpu}
        />
        <datalist id={listId}>
          {[...models].map(([model, from]) => (
            <option key={model} label={`${model}  ${words.money(from)}/h`} value={model} />
          ))}
        </datalist>
        <Field
          autoComplete="off"
          error={errorOf("max_usd_per_hour")}
          help={t("start.priceHelp")}
          inputMode="decimal"
          label={t("start.price")}
          onText={setPrice}
          value={price}
        />
        {needsKey && (
          <Field
            autoComplete="off"
            error={errorOf("ssh_keys")}
            help={t("start.keyHelp")}
            label={t("start.key")}
            onText={setKey}
            placeholder="ssh-ed25519 AAAA…"
            spellCheck={false}
            value={key}
          />
        )}
        {start.error && field === null && <FormProblem error={start.error} />}
        <div className="flex flex-wrap justify-end gap-2">
          <button type="button" className="control" onClick={onClose}>
            {t("start.cancel")}
          </button>
          <button type="submit" className="control control-primary" disabled={start.isPending}>
            {t(start.isPending ? "start.busy" : "start.submit")}
          </button>
        </div>
      </form>
    </Modal>
  );
}

/** `my-box`, or the first of `my-box-2` ... that no machine has. */
function freeName(taken: string[]): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? "my-box" : `my-box-${number}`;
    if (!taken.includes(name)) return name;
  }
}

/** A key that stays the same while the same thing is asked for, so that a repeated click is one. */
function useIntent(wish: string): string {
  // eslint-disable-next-line react-hooks/exhaustive-deps -- another wish is another intent
  return useMemo(() => intentKey(), [wish]);
}

function fieldOf(error: Error | null): FieldName | null {
  const last = error instanceof ApiError ? error.field?.split(".").at(-1) : undefined;
  return FIELDS.find((field) => field === last) ?? null;
}

/** The lowest price of each model with one GPU, cheapest first. */
function cheapest(offers: OfferView[]): Map<string, number> {
  const models = new Map<string, number>();
  for (const offer of offers) {
    if (offer.gpu_count !== 1) continue;
    const known = models.get(offer.gpu);
    if (known === undefined || offer.usd_per_hour < known) models.set(offer.gpu, offer.usd_per_hour);
  }
  return new Map([...models].sort(([, a], [, b]) => a - b));
}

function marketHelp(
  { t, money }: Words,
  offers: { isPending: boolean; isError: boolean },
  models: Map<string, number>,
  gpu: string,
): string {
  if (offers.isPending) return t("start.marketLoading");
  if (offers.isError) return t("start.marketFailed");
  const from = models.get(gpu.trim());
  if (from !== undefined) return t("start.gpuHelp", { count: models.size, price: money(from) });
  return models.size === 0 ? t("start.gpuNone") : t("start.gpuCount", { count: models.size });
}
