import { Dialog } from "@base-ui/react/dialog";
import type { ReactNode } from "react";

interface ModalProps {
  open: boolean;
  onClose(): void;
  title: string;
  children: ReactNode;
}

/** A dialog over the page: keeps the focus inside, gives it back, closes on Escape. */
export function Modal({ open, onClose, title, children }: ModalProps): ReactNode {
  return (
    <Dialog.Root open={open} onOpenChange={(next) => next || onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="fixed inset-0 bg-black/50" />
        <Dialog.Popup className="panel fixed top-1/2 left-1/2 max-h-[calc(100dvh-2rem)] w-[28rem] max-w-[calc(100vw-2rem)] -translate-1/2 overflow-auto p-6">
          <Dialog.Title className="mb-4 text-lg font-bold break-words">{title}</Dialog.Title>
          {children}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
