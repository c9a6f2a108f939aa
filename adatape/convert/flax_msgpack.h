// Flax checkpoints: a msgpack tree {"params": {...}} whose leaves are arrays.
#pragma once

#include "adatape/core/safetensors.h"

namespace adatape {

// The arrays of a Flax msgpack file (flax.serialization), names joined by "/", without a leading "params/". Large arrays that Flax splits
// into chunks are joined. Hostile files (truncated, lying shapes, unknown dtypes, names of more than 1024 bytes) throw Error naming file
// and array.
NamedTensors read_flax_msgpack(const std::string& path);

}  // namespace adatape
