#include "machine_options.h"

#include <gpt/ops/attention.h>

#include "command_line.h"

namespace program {

void add_machine_options(CLI::App& app, MachineRequest& request, gpt::GenerateOptions& options,
                         const std::string& packs) {
  app.add_option_function<std::string>(
         "--dtype",
         [&request](const std::string& name) {
           if (name == "auto") return;
           request.load.dtype = gpt::dtype_from_name(name);
           if (!request.load.dtype || !gpt::is_weight_dtype(*request.load.dtype))
             throw UsageError("--dtype: " + in_quotes(name) + " is none of auto, float32, bfloat16, float16");
         },
         "Convert the weights: auto (as they are), float32, bfloat16, float16")
      ->type_name("NAME");
  app.add_option_function<std::string>(
         "--kv-dtype",
         [&options](const std::string& name) {
           const auto dtype = gpt::dtype_from_name(name);
           if (!dtype || !gpt::ops::is_cache_dtype(*dtype))
             throw UsageError("--kv-dtype: " + in_quotes(name) +
                              " is none of float32, bfloat16, float16, int8");
           options.kv_cache_dtype = *dtype;
         },
         "Hold keys and values as float32, bfloat16, float16, int8 (float32)")
      ->type_name("NAME");
  add_number<int>(app, "--threads", request.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag_function(
         "--pack,!--no-pack", [&request](std::int64_t count) { request.pack = count > 0; },
         "Lay the weights out for speed while loading (" + packs + ")")
      ->disable_flag_override();
  app.add_flag_callback(
      "--no-mmap", [&request] { request.load.map = false; }, "Read the weights instead of mapping the file");
}

}  // namespace program
