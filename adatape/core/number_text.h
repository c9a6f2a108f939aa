// Numbers as tables and reports print them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// printf of one number; "-" where it is not finite.
std::string number_text(const char* format, double value);
// "12.3 k"; "-" where it is not finite.
std::string count_text(double value);
// "99.96 %"; never rounds a share below 1 up to "100.00 %".
std::string percent_text(double share);
// "1 learning rate", "3 learning rates".
std::string counted(size_t count, const std::string& noun);
// 100000 as "100,000".
std::string grouped_digits(int64_t value);

double mean_of(const std::vector<double>& values);  // NaN where there are none
double median_of(std::vector<double> values);

}  // namespace adatape
