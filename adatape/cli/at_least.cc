#include "adatape/cli/at_least.h"

#include "adatape/core/check.h"

namespace adatape::cli {

CLI::Validator at_least(int64_t minimum) {
  return {[minimum](const std::string& given) {
            int64_t number = 0;
            const bool whole = CLI::detail::lexical_cast(given, number);
            return whole && number >= minimum ? std::string()
                                              : concat("expected ", whole ? "" : "a whole number, ", minimum, " or more, got ", given);
          },
          ""};
}

}  // namespace adatape::cli
