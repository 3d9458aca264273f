// Text that somebody else wrote (a far end, ssh, a user's operand) passes through here on its way to a terminal. It
// refuses nothing and replaces what could move a cursor, colour, reorder or hide text there.

/**
 * Control characters (C0, DEL, C1), line and paragraph separators, marks and overrides of direction (Bidi_Control of
 * Unicode's UAX #9, with the deprecated U+206A to U+206F beside them), and halves of surrogate pairs, which are no
 * characters and which each terminal shows in another way. With the flag u a whole pair is not taken for its halves.
 */
const UNSAFE_CHARACTERS =
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]/gu

/** `text` as one line that is safe to print: a tab becomes a space, every unsafe character a '?'. The length in UTF-16 units stays. */
export function printable(text: string): string {
  return text.replace(UNSAFE_CHARACTERS, (character) => (character === '\t' ? ' ' : '?'))
}
