// All logits processors. Where a generation uses several, they work in transformers' order (_get_logits_processor in
// src/transformers/generation/utils.py), in which those of OpenAI's API and of llama.cpp have these places:
//   ClassifierFreeGuidance, SequenceBias (sequence_bias and logit_bias), HammingDiversity, RepetitionPenalty,
//   FrequencyPenalty (and presence), Dry, NoRepeatNGram, NoBadWords, MinLength, MinNewTokens, PrefixConstrained, ForcedBos,
//   ForcedEos, ExponentialDecayLengthPenalty, SuppressTokens, BeginSuppressTokens, the user's function, GrammarConstrained;
//   when sampling, Temperature or DynamicTemperature, TopNSigma, TopK, TopP, MinP, TypicalP, EpsilonCutoff, EtaCutoff, Xtc,
//   or, instead of those after the temperature, Mirostat;
//   Renormalize.
#pragma once

#include "gpt/generate/constraints.h"
#include "gpt/generate/filters.h"
#include "gpt/generate/grammar.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/generate/penalties.h"
