// convert.h: alpha in and out of the colours, around a resize (PIL: LA <-> La, RGBA <-> RGBa).
#pragma once
#include "picture.h"

namespace tia2 {

void premultiply(picture *p);   // mode la or rgba, in place
void unpremultiply(picture *p); // clipped at 255; colours at alpha 0 stay as they are

} // namespace tia2
