// Package ndjson is a destination that writes change events as
// newline-delimited JSON: one event a line, as relaxed Extended JSON v2
// (canonical by option), with the server's own fields in the server's order.
// [Open] writes to files, [To] to standard output or any other writer.
//
// # Files
//
// The files of a pipeline lie in one directory and are named
//
//	shop-0000000007-000001.ndjson
//
// by the key of the checkpoint (see below), the epoch of the lease, and a number
// that counts the files of that epoch. Sorted by name they are in the order in
// which they were written. Each epoch writes files of its own, so that what
// an owner writes who was only presumed dead is never among the lines of the
// one that took over. Without a lease the epoch is 0.
//
// A file is created with its first event. It is ended before the event that
// would make it larger than MaxFileBytes, or once it is MaxFileAge old. It is
// finished as soon as there is a later one of the same key: finished files may
// be moved away, or deleted. They may not be truncated or edited in place.
//
// In the name, the key keeps a-z, 0-9, "-", "_" and ".". All other bytes,
// capital letters among them, stand as %xx, so that different keys have different
// files on file systems of any kind: the key "shop/orders" writes
// "shop%2forders-…". What is longer than 110 bytes is cut, and a hash stands for
// the rest.
//
// The directory is created with permissions 0750 and files with 0640, less the
// umask. For others, create the directory beforehand.
//
// # What is guaranteed
//
//   - The files are flushed to the disk (fsync), and so is their directory, before
//     the checkpoint that covers their lines is saved. A checkpoint never speaks
//     of a line that a power cut can take away, if the disk does as it is told.
//   - Every line that ends in a newline is one whole event, apart from the last
//     moments before a power cut or a crash: what they left torn is cut off when
//     the stream is next attached, that is before anything new is written. Only
//     what lies behind the last checkpoint is looked at and cut; whole lines are
//     kept.
//   - A write that fails (a full disk) is taken back and tried again. A flush that
//     fails is never repeated on the same file, because the kernel may have thrown
//     the data away and report success the next time: what the file got since the
//     flush before is cut off, and the stream goes back to its checkpoint, and on
//     in a new file.
//   - Lines of one file are in the order of the stream, and so are those of all
//     files, except that after a restart the stream repeats from its checkpoint.
//
// # What is not
//
// Events may be there twice: after a crash, what was delivered since the last
// checkpoint comes again, in a new file. The same event has the same _id, and no
// other event of the stream has it (but for MongoDB 4.0, which gives a dropDatabase and its
// invalidate the same). To read each once, remember the _id of the lines read,
// and pass over a line whose _id is known; what must be remembered goes back as
// far as one save interval of the pipeline and what was in flight then. Don't
// compare tokens for order.
//
// A line can be read before it is safe on disk. After a power cut it may be gone
// from the file; its event comes again.
//
// An owner that was frozen and thaws after it was replaced finishes the write it
// was in, into its own file. If the power then fails before that file is flushed, its
// last line stays torn, because it is no longer among the files that the new
// owner looks after. Those events are in the new owner's files.
//
// When there is output of a key but no checkpoint, the stream is not started
// ([rigatoni.ErrOutputExists]): it looks as if the checkpoint had been lost.
// Neither is it if the file that the checkpoint names is shorter than what was
// flushed of it.
package ndjson
