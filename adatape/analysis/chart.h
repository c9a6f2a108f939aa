// A chart of points with error bars, as a picture.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adatape/data/picture.h"

namespace adatape {

struct Chart {
  struct Point {
    double x = 0, y = 0, deviation = 0;  // deviation: half an error bar, 0 without
    double x_deviation = 0;
    std::string colour = "";  // "#rrggbb"; empty: blue
    bool on_line = true;      // where points are joined
  };
  std::string x_title, y_title;
  std::vector<Point> points;
  std::vector<std::string> names;   // what stands below each point, whose x then are 0, 1, 2 ...; empty: numbers
  std::vector<std::string> legend;  // a line for each point below the plot, behind the number that stands beside the point
  bool joined = false;              // by a line
  bool shares = false;              // y in %, from 0
  bool tight = false;               // shares from what is least
  std::optional<double> level;      // a dotted line across, such as a mean
};

// Numbers for an axis, `count` or somewhat more or less: multiples of 1, 2 or 5 times a power of ten, from the last one not above low to
// the first one not below high. Where high is not above low an axis goes on to low + 1.
std::vector<double> axis_ticks(double low, double high, int count);

// As short as tells neighbours apart: "0.25", "0.50"; shares: "25 %".
std::vector<std::string> tick_texts(const std::vector<double>& ticks, bool shares);

// With axes, tick labels and titles; wider for many names, which are turned where they do not fit. Points that are not finite are left out.
Picture draw_chart(const Chart& chart);

}  // namespace adatape
