/** Lengths in micrometres, as `cleft.core.units` reads them. */

const UM_PER_UNIT: Record<string, number> = {
  pm: 1e-6, picometer: 1e-6, å: 1e-4, angstrom: 1e-4, nm: 1e-3, nanometer: 1e-3, um: 1, "\u00b5m": 1, "\u03bcm": 1,
  micron: 1, micrometer: 1, mm: 1e3, millimeter: 1e3, cm: 1e4, centimeter: 1e4, in: 25400, inch: 25400, dm: 1e5,
  decimeter: 1e5, m: 1e6, meter: 1e6,
};

/** A length in micrometres; undefined where size or unit says nothing physical. */
export function micrometres(size: number, unit: string): number | undefined {
  // ImageJ writes the micro sign escaped
  const name = unit.trim().replace("\\u00B5", "\u00b5").toLowerCase().replace("metre", "meter");
  const factor = UM_PER_UNIT[name] ?? UM_PER_UNIT[name.replace(/s$/, "")];
  const length = Math.abs(size);
  return factor !== undefined && length > 0 && length < Infinity ? length * factor : undefined;
}
