import { asObject, Fields } from './fields';
import { adaptedName, type ModelOptions, type ResolvedHttpOptions } from './options';
import { Problem } from './problem';
import { COMMON_FIELDS } from './requestFields';

/** Names that an error lists. */
const MOST_LISTED = 20;

/**
 * The models of a server. Whatever the name in a request can mean is decided by `named`. The adapters of engines come and go
 * while the server runs.
 */
export class Models {
  /** The options by which each model's requests are answered, in the order given. */
  readonly all: readonly ModelOptions[];

  constructor(private readonly options: ResolvedHttpOptions) {
    this.all = options.models.map(({ name: model, engine }) => {
      const { maxTokens = engine.contextLength } = options;
      return { ...options, model, engine, adapter: undefined, maxTokens };
    });
  }

  /** Whether every engine takes requests. */
  get ready(): boolean {
    return this.all.every(({ engine }) => engine.ready);
  }

  /** The model, or model with an adapter, of this name or alias; undefined for none. */
  named(name: string): ModelOptions | undefined {
    const own = this.#withoutAlias(name);
    return this.#model(own) ?? this.#adapted(own);
  }

  #withoutAlias(name: string): string {
    const { aliases } = this.options;
    return Object.hasOwn(aliases, name) ? aliases[name] : name;
  }

  #model(name: string): ModelOptions | undefined {
    const own = this.#withoutAlias(name);
    return this.all.find(({ model }) => model === own);
  }

  /** Each model as it is, followed by it with each of its adapters. */
  get withAdapters(): ModelOptions[] {
    return this.all.flatMap((model) => [
      model,
      ...model.engine.adapters.map((adapter) => withAdapter(model, adapter)),
    ]);
  }

  /** The adapter that 'model:adapter' names, both of which may have colons, and the model be an alias. */
  #adapted(name: string): ModelOptions | undefined {
    for (let at = name.indexOf(':'); at >= 0; at = name.indexOf(':', at + 1)) {
      const [model, adapter] = [this.#model(name.slice(0, at)), name.slice(at + 1)];
      if (model?.engine.adapters.includes(adapter)) return withAdapter(model, adapter);
    }
    return undefined;
  }

  /**
   * The model that a request's body names; the first one if it names none.
   * @throws Problem 400 unless the body is an object and the name a text, 404 for an unknown name.
   */
  of(body: unknown): ModelOptions {
    const name = new Fields(asObject(body)).read('model', COMMON_FIELDS.model);
    const found = name === undefined ? this.all[0] : this.named(name);
    if (found !== undefined) return found;
    const names = this.withAdapters.slice(0, MOST_LISTED).map(({ model }) => JSON.stringify(model));
    const shown = JSON.stringify(name!.length > 60 ? `${name!.slice(0, 60)}...` : name);
    const message = `There is no model ${shown} here, only ${names.join(', ')}.`;
    throw new Problem(404, message, 'model', 'model_not_found', 'There is no model of this name here.');
  }
}

function withAdapter(options: ModelOptions, adapter: string): ModelOptions {
  return { ...options, model: adaptedName(options.model, adapter), adapter };
}
