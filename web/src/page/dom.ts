/** Short words for the page's parts. */

import { UserError } from "../core/errors";
import { Cancelled } from "./client";

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no part ${id}`);
  return found as T;
}

export const input = (id: string): HTMLInputElement => byId<HTMLInputElement>(id);
export const select = (id: string): HTMLSelectElement => byId<HTMLSelectElement>(id);

export function show(id: string, visible: boolean): void {
  byId(id).hidden = !visible;
}

/** The number in a field; null where it is empty or none. */
export function numberIn(id: string): number | null {
  const { value } = input(id);
  const found = Number(value);
  return value.trim() === "" || !Number.isFinite(found) ? null : found;
}

export function say(text: string): void {
  const message = byId("message");
  message.textContent = text;
  message.hidden = text === "";
  if (text) message.scrollIntoView({ block: "nearest" });
}

/** Do something and tell what went wrong, if anything; what the person did wrong in words, our mistakes too. */
export async function telling(work: () => Promise<void>): Promise<void> {
  say("");
  try {
    await work();
  } catch (error) {
    if (error instanceof Cancelled) return;
    if (!(error instanceof UserError)) console.error(error);
    say(error instanceof Error ? error.message : String(error));
  }
}

export function option(value: string, text: string): HTMLOptionElement {
  return new Option(text, value);
}

export function thousands(n: number): string {
  return n.toLocaleString("en-GB");
}
