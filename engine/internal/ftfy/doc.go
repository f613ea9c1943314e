// Package ftfy repairs text that was damaged on its way: mojibake (UTF-8 read in another encoding), HTML entities,
// terminal escapes, ligatures, full-width forms, curly quotes, odd line breaks and control characters.
//
// It is a port to Go of ftfy.fix_text with all defaults, from the Python package ftfy 6.3.1 by Robyn Speer
// (https://github.com/rspeer/python-ftfy), Copyright 2023 Robyn Speer, licensed under the Apache License, Version 2.0
// (https://www.apache.org/licenses/LICENSE-2.0). Changes from the original: another language, no options and no
// explanations, regular expressions replaced by hand-written searches; tables.go is made from the original's tables by
// make_tables.py.
//
// open_clip and openai/CLIP clean every prompt with it, so their token ids depend on it.
//
// What has no counterpart here: lone surrogates, since a Go text is UTF-8 (bytes that are not become U+FFFD).
package ftfy
