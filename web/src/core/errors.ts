/** What a person can do something about: one sentence, shown as it is. */

export class UserError extends Error {}
