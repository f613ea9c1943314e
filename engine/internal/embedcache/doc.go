// Package embedcache keeps embeddings on disk, so that a picture or a text that was encoded once need not be again.
//
// A Cache is a folder, a Table is one side of one model in it: rows of one width, each under the Key of its item. A table
// is named by a hash of what all its rows depend on (weights, their type, device, kernels, normalisation,
// preprocessing), a key is a hash of the item alone. So a picture is hashed once for all models, one model's rows lie
// together, and those of a model that is not used any more are evicted together.
//
// Get and Put take a batch, and a Get that finds everything allocates nothing. Put keeps rows in memory until there are
// Options.FlushBytes of them or Options.FlushEvery has passed; one goroutine per cache writes them. A failing cache fails
// nothing: what cannot be read is a miss, what cannot be written is dropped, Options.Report is told once.
//
// # Segments
//
// Rows are written as immutable files. A file of table T is named T-TIME-RANDOM.emb1 (32, 16 and 12 hexadecimal digits;
// the time is in nanoseconds). Another format has another number at the end. Integers are little-endian:
//
//	bytes        what
//	8            "tia2emb1"
//	...          blocks, one after another
//	16 * keys    keys, in ascending order
//	4 * keys     of the key at the same place: block<<8 | row in the block
//	12 * blocks  of each block: u32 bytes, u32 CRC-32C of these bytes, u32 rows (1 to 256)
//	56           trailer:
//	   0  16     name of the table
//	  16   4     u32 width of a row
//	  20   4     u32 keys
//	  24   4     u32 blocks
//	  28   4     u32 codec: 1
//	  32   8     u64 bytes of all blocks
//	  40   4     u32 CRC-32C of keys, positions and block table
//	  44   4     u32 CRC-32C of the trailer up to here
//	  48   8     "tia2emb1"
//
// A block of codec 1 holds n = rows * width f32 as four zstd frames: the lowest byte of all values, row after row, then
// the second, the third and the highest. Each frame has zstd's checksum too. Full blocks have 16 KiB / 4 / width rows, at
// least 1 and at most 256.
//
// Opening a table reads its keys, 20 bytes each (10 to 20 ms for a million), and keeps them in memory: about 1 % of the
// cache's size at width 512, 9 % at 64. They are not mapped: a mapped file that another process or host cuts off or
// removes can be a SIGBUS. A table of counts by the first bits leads to about 8 keys, among which it is searched.
//
// What does not agree with its checksums, or is inconsistent with right ones, is damaged: the segment is removed, its rows
// are misses. An error of the system (too many files, no permission) removes nothing.
//
// Compression: the mantissas of embeddings are noise, so the ratio is bounded by 32 / (23 + sign + entropy of the
// exponent), about 1.22. Measured with 16 KiB blocks: 1.17 for normalised Gaussian vectors of any width, 1.20 for
// pictures and 1.23 for texts of the demo model, 1.21 and 1.20 for those of a random ViT-B/32; with the index 1.16 for
// Gaussian vectors of width 512 and 1.07 of width 64. All planes in one frame: 1.00, since the encoder takes the block for
// noise. Also tried: the exponent in a byte of its own (equal for noise, worse for texts), columns first (within 1 %),
// level fastest (1.08 to 1.23: it often gives up), best (1 % better at a tenth of the speed).
//
// # Several processes
//
// Any number of caches, in one process or in many, may use a folder. What makes it safe:
//
//   - a segment gets its name by rename, when it is whole and on the disk, and never changes after that; kill -9 loses the
//     rows that were in memory only and leaves at most a temporary file, which the next process removes;
//   - names are never used twice; two processes that store the same row store it twice, until a merge;
//   - a segment that is removed stays readable for those who have it open;
//   - a cache looks for new and removed segments when it misses, at most every second, and only where the folder's time
//     has changed.
//
// # Merging and eviction
//
// After writing, under the lock file that one process takes if it is free, segments are merged and evicted. Four or more
// of a table that are of about one size become one, up to a 32nd of Options.MaxBytes: full blocks are copied as they are,
// rows of others fill new blocks, rows that are there twice are written once. So a table has few files, and each row is
// rewritten a few times at most.
//
// While the folder is larger than MaxBytes the segment that was not used for the longest time is removed. A file's time is
// that of its last use, renewed every five minutes of use at most. As with any such order, going round and round through a
// set that is larger than the cache finds nothing; Stats.EvictedBytes shows it.
//
// Whoever can write to the folder can change what is found in it: it is for the user's own files.
//
// Why not a library: bbolt and SQLite let one process write, badger and pebble let one process open, and a file per item
// is a million files. The scheme is that of git's packs and of bitcask's immutable files.
package embedcache
