/*
 * The kernels on matrix views, in the files of backend/kernels/, which have the formulas. They turn views into the
 * kernels' arrays and scalars, in the kernels' order; sizes come from the views. Where a kernel takes no leading
 * dimension, rows must be adjacent (ld = cols).
 */

export * from './operations/attention';
export * from './operations/matmul';
export * from './operations/mixture';
export * from './operations/rows';
export * from './operations/stored';
export * from './operations/training';
