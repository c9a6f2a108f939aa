// A fixed part of the training examples for validation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// Which ones of so many named examples are held out: min(count, a tenth), at least one; those whose names have the lowest hashes. So the
// choice is fixed, takes about the same share of each class, and stays when other examples come or go. Error for fewer than two.
std::vector<bool> hold_out(const std::vector<std::string>& names, int64_t count);

}  // namespace adatape
