import { Option } from 'commander';
import { MODEL_DTYPES, type ModelDtype } from '../../model/storedWeights';

export interface DtypeCliOption {
  dtype: ModelDtype;
}

/** The flag of commands that only serve a model. */
export function dtypeOption(): Option {
  const what =
    "type of the model's matrices: stored keeps what the files have in 16 bits or fewer, mapped; another rounds while loading";
  return new Option('--dtype <type>', what).choices(MODEL_DTYPES).default('stored');
}
