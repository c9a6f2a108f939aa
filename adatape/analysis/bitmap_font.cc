#include "adatape/analysis/bitmap_font.h"

#include <array>

#include "adatape/core/utf8.h"

namespace adatape {
namespace {

// From the blank to the tilde: nine rows of five bits, the upper left dot highest. The last two rows lie below the line.
constexpr std::array<uint64_t, 95> kGlyphs = {
    0x000000000000, 0x042108401000, 0x0a5280000000, 0x0a57d5f52800, 0x047d1c5f1000, 0x19c88889cc00, 0x0c9511593400, 0x042100000000,
    0x022210820800, 0x082084222000, 0x00255d520000, 0x00213e420000, 0x000000031844, 0x00003e000000, 0x000000031800, 0x010888884000,
    0x0e8ceb98b800, 0x046108423800, 0x0e8844447c00, 0x0e884c18b800, 0x0232a5f10800, 0x1f878218b800, 0x06443d18b800, 0x1f0888421000,
    0x0e8c5d18b800, 0x0e8c5e113000, 0x003180630000, 0x003180031844, 0x022220820800, 0x0007c1f00000, 0x082082222000, 0x0e8844401000,
    0x0e8deb783c00, 0x0e8c7f18c400, 0x1e8c7d18f800, 0x0e8c2108b800, 0x1e8c6318f800, 0x1f843d087c00, 0x1f843d084000, 0x0e8c2f18bc00,
    0x118c7f18c400, 0x0e2108423800, 0x071084293000, 0x119531494400, 0x108421087c00, 0x11dd6b18c400, 0x11ce6b39c400, 0x0e8c6318b800,
    0x1e8c7d084000, 0x0e8c63593400, 0x1e8c7d494400, 0x0f841c10f800, 0x1f2108421000, 0x118c6318b800, 0x118c62a51000, 0x118c6b5dc400,
    0x118a88a8c400, 0x118a88421000, 0x1f0888887c00, 0x0e4210843800, 0x108208208400, 0x0e1084213800, 0x045440000000, 0x0000000003e0,
    0x082000000000, 0x000382f8bc00, 0x1087a318f800, 0x0003a1083800, 0x010be318bc00, 0x0003a3f83800, 0x064790842000, 0x0003e318bc2e,
    0x1087a318c400, 0x040308423800, 0x02018421084c, 0x1084a98a4800, 0x0c2108423800, 0x0006ab5ad400, 0x0007a318c400, 0x0003a318b800,
    0x0007a318fa10, 0x0003e318bc21, 0x0005b1084000, 0x0003e0e0f800, 0x084790841800, 0x00046318bc00, 0x000463151000, 0x00046b5aa800,
    0x000454454400, 0x00046318bc2e, 0x0007c4447c00, 0x022110420800, 0x042108421000, 0x082104422000, 0x00022a200000,
};

}  // namespace

bool glyph_dot(char letter, int64_t row, int64_t column) {
  const auto place = static_cast<size_t>(static_cast<unsigned char>(letter)) - ' ';
  const uint64_t glyph = kGlyphs[place < kGlyphs.size() ? place : '?' - ' '];
  return (glyph >> (kGlyphRows * kGlyphColumns - 1 - row * kGlyphColumns - column) & 1) != 0;
}

std::string drawable(std::string_view text, size_t longest) {
  std::string letters;
  for (const char letter : printable(text)) {
    const auto code = static_cast<unsigned char>(letter);
    if (code >> 6 == 0x2) continue;  // goes on with a character of several bytes
    letters += code >= ' ' && code < 0x7f ? letter : '?';
  }
  if (letters.size() > longest) letters = letters.substr(0, longest > 2 ? longest - 2 : 0) + "..";
  return letters;
}

}  // namespace adatape
