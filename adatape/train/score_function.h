// Learning from random choices that nothing can be differentiated by.
#pragma once

#include <ATen/core/Tensor.h>

namespace adatape {

// The score-function term (REINFORCE) of a random choice: mean over examples of advantage x log_density, where the advantage is the
// example's loss, standardised over the examples given and without a gradient. Minimising it makes choices with a low loss more likely.
// losses [B], log_density [B] -> scalar; the gradient goes to log_density alone. Losses that are all equal (or a single one) say nothing
// about choices and give 0. Under gradient accumulation the examples given are those of a micro-batch.
// Source: Williams 1992, doi 10.1007/BF00992696, with the batch's mean as the baseline.
at::Tensor score_function_loss(const at::Tensor& losses, const at::Tensor& log_density);

}  // namespace adatape
