// Package export writes results as the files that other tools read: NumPy's .npy and .npz, .jsonl, .json and .parquet,
// chosen by the file's extension.
//
// Every file is written under a temporary name and renamed when it is complete, so that neither an error nor kill -9
// leaves a half file under the final name.
//
// NumPy's formats are written here and not by codeberg.org/sbinet/npyio, which reads them in the tests: its writer
// visits every element by reflection (12 MB/s measured, where this one is as fast as the disk) and writes an array
// without rows as one that NumPy cannot read.
package export
