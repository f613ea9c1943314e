// Package pytext does to text what functions of Python 3.11 do: str.lower, str.split, html.unescape and
// unicodedata.normalize, with the tables of Unicode 14 that it has.
//
// The CLIP tokenizers are defined by Python programs, and near the edges (a final sigma, an entity without its
// semicolon, characters newer than Unicode 14) Go's own functions give other results. Texts are valid UTF-8
// everywhere; Python's lone surrogates have no counterpart here.
package pytext
