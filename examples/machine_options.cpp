#include "machine_options.h"

#include <gpt/ops/attention.h>

namespace program {

void add_machine_options(App& app, MachineRequest& request, gpt::GenerateOptions& options,
                         const std::string& packs) {
  app.add_text_function(
      "--dtype",
      [&request](const std::string& name) {
        if (name == "auto") return;
        request.load.dtype = gpt::dtype_from_name(name);
        if (!request.load.dtype || !gpt::is_weight_dtype(*request.load.dtype))
          throw UsageError("--dtype: " + in_quotes(name) + " is none of auto, float32, bfloat16, float16");
      },
      "NAME", "Convert the weights: auto (as they are), float32, bfloat16, float16");
  app.add_text_function(
      "--kv-dtype",
      [&options](const std::string& name) {
        const auto dtype = gpt::dtype_from_name(name);
        if (!dtype || !gpt::ops::is_cache_dtype(*dtype))
          throw UsageError("--kv-dtype: " + in_quotes(name) + " is none of float32, bfloat16, float16, int8");
        options.kv_cache_dtype = *dtype;
      },
      "NAME", "Hold keys and values as float32, bfloat16, float16, int8 (float32)");
  app.add_number("--threads", request.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--pack,!--no-pack", request.pack,
               "Lay the weights out for speed while loading (" + packs + ")");
  app.add_flag_function(
      "--no-mmap", [&request](bool given) { request.load.map = !given; },
      "Read the weights instead of mapping the file");
}

}  // namespace program
