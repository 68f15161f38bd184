import { conformance } from './conformance';
import { tryLoad } from './tryLoad';

const openblas = tryLoad({ backend: 'openblas' });
conformance('OpenBLAS', () => openblas!, { skip: openblas === null });
