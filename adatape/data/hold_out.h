// A fixed part of the training examples for validation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// Which ones of so many examples, each with a name and a class, are held out: min(count, a tenth), shared among the classes by their sizes,
// at least one of each class of two or more as long as that is no more than count, never all of a class. Within a class those whose names
// have the lowest hashes, so that the choice is fixed. Error where no class has two.
std::vector<bool> hold_out(const std::vector<std::string>& names, const std::vector<int32_t>& labels, int64_t count);

// The indices of so many examples in an order that hangs on their names alone and mixes classes and folders, so that the first ones of a
// split stand for all of it.
std::vector<size_t> mixed_order(const std::vector<std::string>& names);

}  // namespace adatape
