#include "adatape/data/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/data/exif.h"
#include "adatape/data/write_png.h"
#include "tests/data/idx_files.h"
#include "tests/data/picture_files.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(const std::string& bytes, int64_t maximum_pixels = kMaximumPixels) {
  try {
    decode_picture(encoded(bytes), maximum_pixels);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The largest difference of two pictures of equal size.
int difference(const Picture& a, const Picture& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  int most = 0;
  for (size_t i = 0; i < a.pixels.size() && i < b.pixels.size(); ++i) most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  return most;
}

std::vector<int> pixel(const Picture& picture, int64_t y, int64_t x) {
  const uint8_t* p = picture.row(y) + 3 * x;
  return {p[0], p[1], p[2]};
}

// Grey values come out of a flat JPEG within one step.
void expect_near(const Picture& picture, int red, int green, int blue) {
  const std::vector<int> p = pixel(picture, picture.height / 2, picture.width / 2);
  EXPECT_NEAR(p[0], red, 2);
  EXPECT_NEAR(p[1], green, 2);
  EXPECT_NEAR(p[2], blue, 2);
}

TEST(DecodeTest, ReadsJpegOfEveryColourSpace) {
  const Picture picture = gradient_picture(40, 56);
  JpegOptions options;
  options.full_colour = true;
  options.quality = 100;
  EXPECT_LE(difference(decode_picture(encoded(jpeg_bytes(picture, options))), picture), 4);
  options.progressive = true;
  EXPECT_LE(difference(decode_picture(encoded(jpeg_bytes(picture, options))), picture), 4);

  const std::vector<uint8_t> grey(16 * 16, 77);
  expect_near(decode_picture(encoded(jpeg_bytes(grey, 16, 16, {.space = JCS_GRAYSCALE}))), 77, 77, 77);

  // Cyan 0.2, magenta 0.4, yellow 0.6, black 0.5 as ink: light is (1 - ink) (1 - black).
  std::vector<uint8_t> ink, complement;
  for (int i = 0; i < 256; ++i) {
    for (const int value : {51, 102, 153, 128})
      ink.push_back(static_cast<uint8_t>(value)), complement.push_back(static_cast<uint8_t>(255 - value));
  }
  const int red = 204 * 127 / 255, green = 153 * 127 / 255, blue = 102 * 127 / 255;
  expect_near(decode_picture(encoded(jpeg_bytes(complement, 16, 16, {.space = JCS_YCCK}))), red, green, blue);
  // libjpeg writes Adobe's marker for plain CMYK too; without it the values are ink. The marker's 16 bytes are cut out.
  std::string plain = jpeg_bytes(ink, 16, 16, {.space = JCS_CMYK});
  const size_t marker = plain.find("Adobe");
  ASSERT_NE(marker, std::string::npos);
  plain.erase(marker - 4, 16);
  expect_near(decode_picture(encoded(plain)), red, green, blue);
}

TEST(DecodeTest, ReadsPngOfEveryKind) {
  const Picture picture = gradient_picture(5, 7);
  EXPECT_EQ(decode_picture(encoded(png_bytes(picture))).pixels, picture.pixels);
  EXPECT_THAT(pixel(decode_picture(encoded(png_bytes({7, 200}, 1, 2, PNG_COLOR_TYPE_GRAY))), 0, 1), ElementsAre(200, 200, 200));
  // One bit a pixel: white, black.
  EXPECT_THAT(pixel(decode_picture(encoded(png_bytes({0x80}, 1, 2, PNG_COLOR_TYPE_GRAY, 1))), 0, 0), ElementsAre(255, 255, 255));
  // 16 bits are rounded, not cut: 0x00ff is 0.99 of 255.
  EXPECT_THAT(pixel(decode_picture(encoded(png_bytes({0x00, 0xff}, 1, 1, PNG_COLOR_TYPE_GRAY, 16))), 0, 0), ElementsAre(1, 1, 1));
  EXPECT_THAT(pixel(decode_picture(encoded(png_bytes({0xff, 0xff, 0, 0, 0x00, 0xff}, 1, 1, PNG_COLOR_TYPE_RGB, 16))), 0, 0),
              ElementsAre(255, 0, 1));
  EXPECT_THAT(pixel(decode_picture(encoded(png_bytes({1, 0}, 1, 2, PNG_COLOR_TYPE_PALETTE, 8, {1, 2, 3, 40, 50, 60}))), 0, 0),
              ElementsAre(40, 50, 60));
  // Transparent pixels show white, half transparent ones half of it.
  const Picture alpha = decode_picture(encoded(png_bytes({10, 20, 30, 0, 0, 0, 0, 51, 9, 8, 7, 255}, 1, 3, PNG_COLOR_TYPE_RGB_ALPHA)));
  EXPECT_THAT(pixel(alpha, 0, 0), ElementsAre(255, 255, 255));
  EXPECT_THAT(pixel(alpha, 0, 1), ElementsAre(204, 204, 204));
  EXPECT_THAT(pixel(alpha, 0, 2), ElementsAre(9, 8, 7));
}

TEST(DecodeTest, WritesPngThatReadsBack) {
  const TemporaryFolder folder;
  const Picture picture = gradient_picture(9, 4);
  write_png(folder.file("a.png"), picture);
  EXPECT_EQ(decode_picture(encoded(read_file(folder.file("a.png")))).pixels, picture.pixels);
}

TEST(DecodeTest, PngsTellWhoMadeThem) {
  const TemporaryFolder folder;
  const Picture picture = gradient_picture(9, 4);
  write_png(folder.file("ours.png"), picture, "the test");
  write_png(folder.file("plain.png"), picture);
  write_bytes(folder.file("short.png"), "x");
  EXPECT_EQ(decode_picture(encoded(read_file(folder.file("ours.png")))).pixels,
            picture.pixels);  // libpng holds the chunk's sum to be right
  EXPECT_TRUE(png_is_by(folder.file("ours.png"), "the test"));
  EXPECT_FALSE(png_is_by(folder.file("ours.png"), "another"));
  for (const char* other : {"plain.png", "short.png", "nowhere.png", "."}) EXPECT_FALSE(png_is_by(folder.file(other), "the test")) << other;
}

// EXIF numbers corners: the first stored row is the picture's top, right side ..., as the table of the standard says.
TEST(DecodeTest, TurnsAsExifSays) {
  const Picture stored = gradient_picture(24, 40);
  JpegOptions options{.quality = 100, .full_colour = true};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    options.orientation = orientation;
    const std::string jpeg = jpeg_bytes(stored, options);
    const PictureDecoder decoder(encoded(jpeg));
    const Picture shown = decoder.decode();
    EXPECT_EQ(shown.height, orientation >= 5 ? 40 : 24);
    EXPECT_EQ(decoder.height(), shown.height);
    EXPECT_EQ(decoder.width(), shown.width);
    // Where the stored first pixel is: {bottom, right}.
    const bool bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    const bool right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const auto corner = pixel(shown, bottom ? shown.height - 1 : 0, right ? shown.width - 1 : 0);
    EXPECT_LE(corner[0], 4) << orientation;
    EXPECT_LE(corner[1], 4) << orientation;
    // Red grows along stored rows: down or across the shown picture.
    const auto along = pixel(shown, orientation >= 5 ? (bottom ? shown.height - 1 : 0) : (bottom ? 0 : shown.height - 1),
                             orientation >= 5 ? (right ? 0 : shown.width - 1) : (right ? shown.width - 1 : 0));
    EXPECT_GE(along[0], 250) << orientation;
    EXPECT_LE(along[1], 5) << orientation;

    const std::string png = png_bytes(stored.pixels, 24, 40, PNG_COLOR_TYPE_RGB, 8, {}, orientation);
    EXPECT_LE(difference(decode_picture(encoded(png)), shown), 4) << orientation;
    // A part of a turned picture is that part of the whole.
    const DecodedPart part = decoder.decode_part({3, 5, 7, 9}, 7, 9);
    EXPECT_EQ(pixel(part.picture, part.part.top, part.part.left), pixel(shown, 3, 5)) << orientation;
  }
}

TEST(DecodeTest, ExifThatMakesNoSenseIsUpright) {
  const std::string good("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26);
  const auto* bytes = reinterpret_cast<const uint8_t*>(good.data());
  EXPECT_EQ(exif_orientation(bytes, good.size()), 6);
  for (size_t size = 0; size < 22; ++size) EXPECT_EQ(exif_orientation(bytes, size), 1) << size;
  for (size_t place = 0; place < 8; ++place) {
    std::string bad = good;
    bad[place] = '\xff';
    EXPECT_EQ(exif_orientation(reinterpret_cast<const uint8_t*>(bad.data()), bad.size()), 1) << place;
  }
  std::string nine = good;
  nine[18] = 9;
  EXPECT_EQ(exif_orientation(reinterpret_cast<const uint8_t*>(nine.data()), nine.size()), 1);
}

TEST(DecodeTest, PartsEqualTheWhole) {
  const Picture picture = gradient_picture(150, 200);
  for (const bool progressive : {false, true}) {
    for (const bool full_colour : {false, true}) {
      JpegOptions options{.quality = 80, .progressive = progressive, .full_colour = full_colour};
      const std::string bytes = jpeg_bytes(picture, options);
      const PictureDecoder decoder(encoded(bytes));
      const Picture whole = decoder.decode();
      for (const Box& box : {Box{0, 0, 150, 200}, Box{37, 51, 40, 60}, Box{0, 150, 150, 50}, Box{149, 199, 1, 1}, Box{16, 16, 1, 16}}) {
        const DecodedPart part = decoder.decode_part(box, box.height, box.width);
        ASSERT_EQ(part.reduction, 1);
        ASSERT_EQ(part.part.height, box.height);
        ASSERT_EQ(part.part.width, box.width);
        for (int64_t y = 0; y < box.height; ++y) {
          for (int64_t x = 0; x < box.width; ++x) {
            ASSERT_EQ(pixel(part.picture, part.part.top + y, part.part.left + x), pixel(whole, box.top + y, box.left + x))
                << box.top << ' ' << box.left << " at " << y << ' ' << x;
          }
        }
      }
    }
  }
}

TEST(DecodeTest, LargePartsAreDecodedSmall) {
  const std::string bytes = jpeg_bytes(gradient_picture(160, 240));
  const PictureDecoder decoder(encoded(bytes));
  const Picture whole = decoder.decode();
  for (const auto& [target, reduction] : {std::pair<int64_t, int64_t>{80, 1}, {60, 2}, {30, 4}, {15, 8}, {1, 8}}) {
    const DecodedPart part = decoder.decode_part({20, 40, 120, 160}, target, target);
    EXPECT_EQ(part.reduction, reduction);
    EXPECT_EQ(part.part.height, (140 + reduction - 1) / reduction - 20 / reduction);
    EXPECT_EQ(part.part.width, 160 / reduction);
    const std::vector<int> small = pixel(part.picture, part.part.top + part.part.height / 2, part.part.left + part.part.width / 2);
    const std::vector<int> full = pixel(whole, 80, 120);
    EXPECT_NEAR(small[0], full[0], 12) << reduction;
    EXPECT_NEAR(small[1], full[1], 12) << reduction;
  }
  EXPECT_THROW(decoder.decode_part({0, 0, 161, 1}, 1, 1), Error);
  EXPECT_THROW(decoder.decode_part({0, -1, 1, 1}, 1, 1), Error);
}

TEST(DecodeTest, RefusesMoreThanTheLimitBeforeItAllocates) {
  const std::string jpeg = jpeg_bytes(gradient_picture(10, 20)), png = png_bytes(gradient_picture(10, 20));
  for (const std::string& bytes : {jpeg, png}) {
    EXPECT_EQ(refusal(bytes, 199), "photo: expected at most 199 pixels, got 20 x 10");
    EXPECT_EQ(refusal(bytes, 200), "no error");
  }
  // A header that announces 65500 x 65500 pixels of a picture of a few bytes.
  std::string bomb = jpeg;
  const size_t frame = bomb.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  for (const size_t place : {5, 7}) bomb.replace(frame + place, 2, "\xff\xdc");
  EXPECT_EQ(refusal(bomb), "photo: expected at most 100000000 pixels, got 65500 x 65500");
}

TEST(DecodeTest, RefusesWhatIsCutOffAnywhere) {
  const Picture picture = gradient_picture(48, 48);
  JpegOptions progressive;
  progressive.progressive = true;
  for (const std::string& bytes : {jpeg_bytes(picture), jpeg_bytes(picture, progressive), png_bytes(picture)}) {
    for (size_t size = 0; size + 2 < bytes.size(); size += 1 + size / 40) {
      const std::string message = refusal(bytes.substr(0, size));
      EXPECT_THAT(message, AllOf(HasSubstr("photo: expected "), ::testing::Not(HasSubstr("\n")))) << size;
    }
  }
  EXPECT_EQ(refusal(""), "photo: expected a JPEG or PNG picture, got an empty file");
  EXPECT_EQ(refusal("GIF89a"), "photo: expected a JPEG or PNG picture, got other data");
  std::string png = png_bytes(gradient_picture(10, 20).pixels, 10, 20, PNG_COLOR_TYPE_RGB, 8, {}, /*orientation=*/6);
  const size_t exif = png.find("eXIf");
  ASSERT_NE(exif, std::string::npos);
  png.replace(exif - 4, 4, std::string("\x56\0\0\x1a", 4));
  EXPECT_EQ(refusal(png),
            concat("photo: expected an intact PNG picture, got a chunk of 1442840602 bytes where ", png.size() - exif - 8, " are left"));
}

// Whatever happens to the bytes, there is a picture or one error.
TEST(DecodeTest, SurvivesChangedBytes) {
  const Picture picture = gradient_picture(33, 47);
  uint32_t random = 1;
  for (const std::string& bytes : {jpeg_bytes(picture), png_bytes(picture)}) {
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
      std::string changed = bytes;
      for (int k = 0; k < 3; ++k) {
        random = random * 1664525 + 1013904223;
        changed[(random >> 8) % changed.size()] = static_cast<char>(random >> 24);
      }
      refused += refusal(changed, 1 << 20) != "no error";
    }
    EXPECT_GT(refused, 100);
  }
}

}  // namespace
}  // namespace adatape
