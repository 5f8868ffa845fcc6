// All of libgpt.
//
//   gpt::Model model = gpt::Model::load("gpt2");     // a Hugging Face directory: mapped, not copied
//   gpt::Generator generator(model);                 // greedy unless asked for more
//   gpt::GenerateOptions options{.max_new_tokens = 64, .do_sample = true, .temperature = 0.8, .seed = 7};
//   for (const gpt::Piece& piece : generator.stream("Once upon a time", options))
//     std::cout << piece.text << std::flush;         // whole characters, as soon as they are known
//
//   auto ids = model.tokenizer().encode("Hello");    // text to token ids; decode() is the way back
//   auto result = generator.generate(ids);           // result.ids, .text, .finish_reason, .timing, ...
//   gpt::Trainer trainer(model, {.learning_rate = 1e-4, .num_train_epochs = 3});
//   trainer.fit(gpt::TextDataset::from_file("corpus.txt", model.tokenizer(), {.block_size = 256}));
//   model.save("tuned");                             // transformers and load() read it
//
// Every failure is an exception derived from gpt::Error whose message names the thing.
#pragma once

#include "gpt/autograd/ops.h"
#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/dtype.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/core/shape.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/generate/constraints.h"
#include "gpt/generate/filters.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/generate/logits_processors.h"
#include "gpt/generate/penalties.h"
#include "gpt/generate/sampler.h"
#include "gpt/io/gguf.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/gguf.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/models/initialize.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/model.h"
#include "gpt/models/quantize.h"
#include "gpt/nn/attention.h"
#include "gpt/nn/block.h"
#include "gpt/nn/embedding.h"
#include "gpt/nn/kv_cache.h"
#include "gpt/nn/layer_norm.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/mlp.h"
#include "gpt/nn/module.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/attention.h"
#include "gpt/ops/bfloat16.h"
#include "gpt/ops/dropout.h"
#include "gpt/ops/embedding.h"
#include "gpt/ops/gguf_blocks.h"
#include "gpt/ops/isa.h"
#include "gpt/ops/layer_norm.h"
#include "gpt/ops/linear.h"
#include "gpt/ops/loss.h"
#include "gpt/ops/optimizer.h"
#include "gpt/ops/quantize.h"
#include "gpt/ops/softmax.h"
#include "gpt/ops/weight.h"
#include "gpt/text/bpe_trainer.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/chat_template.h"
#include "gpt/text/sentencepiece.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/utf8.h"
#include "gpt/text/wordpiece.h"
#include "gpt/train/adamw.h"
#include "gpt/train/batches.h"
#include "gpt/train/dataset.h"
#include "gpt/train/jsonl_dataset.h"
#include "gpt/train/metrics.h"
#include "gpt/train/parameters.h"
#include "gpt/train/report.h"
#include "gpt/train/schedule.h"
#include "gpt/train/tensorboard.h"
#include "gpt/train/text_dataset.h"
#include "gpt/train/trainer.h"
