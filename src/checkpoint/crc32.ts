/** The polynomial of CRC-32, and x^0 and x^8, as zlib has them: the highest bit is the coefficient of x^0. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000;
const X_TO_8 = 0x00800000;

/** The CRC-32 of bytes a followed by bytes b: crc(a) x^(8 |b|) + crc(b), over GF(2) modulo the polynomial. */
export function joinedCrc32(ofA: number, ofB: number, bytesOfB: number): number {
  let shift = ONE;
  let power = X_TO_8;
  for (let n = bytesOfB; n > 0; n = Math.floor(n / 2)) {
    if (n % 2 === 1) shift = product(shift, power);
    power = product(power, power);
  }
  return (product(shift, ofA) ^ ofB) >>> 0;
}

/** a b over GF(2) modulo the polynomial. */
function product(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) sum ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return sum;
}
