#include "../sampling.h"

#include "areas.h"
#include "entries.h"

namespace sgemoe::entries {

void sampleRows(Args& args) {
  const Floats logits = args.floats("logits");
  const int64_t ldLogits = args.size("ldLogits");
  const Floats settings = args.floats("settings");
  const Ints choices = args.ints("choices"), tokens = args.ints("tokens");
  const int64_t rows = args.size("rows"), cols = args.size("cols");
  args.done();
  args.requireLd("ldLogits", ldLogits, static_cast<double>(cols));
  Areas areas(args);
  const auto count = static_cast<double>(rows);
  areas.reads(logits, matrix(count, static_cast<double>(cols), static_cast<double>(ldLogits)));
  areas.reads(settings, 3 * count);
  areas.reads(choices, 2 * count);
  areas.writes(tokens, count);
  if (rows == 0) return;
  areas.requireApart();
  sgemoe::sampleRows(args.kernels(), logits.begin(), ldLogits, settings.begin(), choices.begin(), tokens.begin(), rows,
                     cols);
}

}  // namespace sgemoe::entries
