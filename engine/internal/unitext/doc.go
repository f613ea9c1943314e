// Package unitext holds Unicode sets, case mappings and normal forms that are pinned to the tables of a reference
// implementation.
//
// Token ids must not change when Go's own Unicode tables do, and the references disagree with each other: Python 3.11
// has Unicode 14, its regex module a later one, the tokenizers library an earlier one for normal forms. So each
// reference's tables are written down by a script (make_tables.py beside their user) and read by this package.
package unitext
