import { useState, type ReactNode } from "react";
import { useDestroyMachine } from "../api/queries";
import type { MachineView } from "../api/schema";
import { useWords } from "../i18n";
import { Field } from "../ui/Field";
import { Modal } from "../ui/Modal";
import { FormProblem } from "../ui/Problem";

/** Asks for the machine's name before everything on it is deleted. */
export function DestroyDialog(props: { machine: MachineView; onClose(): void }): ReactNode {
  const { machine, onClose } = props;
  const { name } = machine;
  const { t } = useWords();
  const [typed, setTyped] = useState("");
  const destroy = useDestroyMachine();
  return (
    <Modal open onClose={onClose} title={t("destroy.title", { name })}>
      <form
        className="space-y-4"
        onSubmit={(event) => {
          event.preventDefault();
          if (typed === name) destroy.mutate(machine.machine_id, { onSuccess: onClose });
        }}
      >
        <p>{t("destroy.text")}</p>
        <Field
          autoComplete="off"
          label={t("destroy.type", { name })}
          onText={setTyped}
          spellCheck={false}
          value={typed}
        />
        {destroy.isError && <FormProblem error={destroy.error} />}
        <div className="flex flex-wrap justify-end gap-2">
          <button type="button" className="control" onClick={onClose}>
            {t("destroy.cancel")}
          </button>
          <button
            type="submit"
            className="control control-danger"
            disabled={typed !== name || destroy.isPending}
          >
            {t(destroy.isPending ? "destroy.busy" : "destroy.submit")}
          </button>
        </div>
      </form>
    </Modal>
  );
}
