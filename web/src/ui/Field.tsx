import { useId, type InputHTMLAttributes, type ReactNode } from "react";

interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  label: string;
  help?: string | undefined;
  /** What is wrong with the value; it replaces the help. */
  error?: string | undefined;
  onText(value: string): void;
}

/** A labelled text input with its help or its error beneath. */
export function Field({ label, help, error, onText, ...input }: FieldProps): ReactNode {
  const id = useId();
  const note = error ?? help;
  return (
    <div className="space-y-1">
      <label className="block font-[550]" htmlFor={id}>
        {label}
      </label>
      <input
        {...input}
        aria-describedby={note ? `${id}-note` : undefined}
        aria-invalid={error !== undefined}
        className="input"
        id={id}
        onChange={(event) => onText(event.target.value)}
      />
      {note && (
        <p className={`text-[13px] ${error ? "text-failing" : "text-muted"}`} id={`${id}-note`}>
          {note}
        </p>
      )}
    </div>
  );
}
