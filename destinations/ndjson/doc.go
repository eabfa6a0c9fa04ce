// Package ndjson is a destination that writes change events as
// newline-delimited JSON: one event a line, as relaxed Extended JSON v2 (canonical
// or plain JSON by option, see package extjson), with the server's fields in the
// server's order. [Open] writes to files, each event exactly once; [To] to standard
// output or any other writer, at least once. [OpenDeadLetters] keeps events that
// were refused.
//
// # Files
//
// The files of a pipeline lie in one directory and are named
//
//	shop-0000000007-000001.ndjson
//
// by the key of the checkpoint (see below), a number for each process that has owned
// the stream, its generation, and a number that counts its files. Sorted by name they
// are in the order of the stream, also after all finished files were taken away. The
// generation is the epoch of the lease. Where the epoch goes back, because the store
// was lost, restored or exchanged, it continues after the last one.
//
// A file has this name once it is finished: a checkpoint that was saved covers all
// of it, and it will not change again. Until then it is called
//
//	shop-0000000007-000001.ndjson.partial
//
// (and for a moment .partial.0000000008, if the owner of epoch 8 takes over from one
// that may be alive), which a pattern such as *.ndjson doesn't match. A consumer
// takes finished files: it may read, move and delete them whenever it likes, and
// leaves the others alone, and the hidden .shop-0000000007.finished.json and
// .shop-0000000007.owner, too: they remember names and sizes of what was taken.
//
// A file ends before the event that would make it larger than MaxFileBytes, or once
// it is MaxFileAge old, and is finished with the next checkpoint: at the next save,
// at most SaveInterval later while events come. An idle stream's file is finished
// at MaxFileAge, and the last file when the pipeline stops cleanly. After a crash,
// the next start finishes what the checkpoint covers.
//
// In the name, the key keeps a-z, 0-9, "-", "_" and ".". All other bytes,
// capital letters among them, are written as %xx, so that different keys have
// different files on file systems of any kind: the key "shop/orders" writes
// "shop%2forders-…". A key of more than 90 bytes is cut, and a hash stands for the
// rest.
//
// The directory is created with permissions 0750 and files with 0640, less the
// umask. For others, create the directory beforehand.
//
// # Guarantees
//
//   - Exactly once: in finished files each event of the stream is there once, in the
//     order of the stream, however often the process is killed and the power fails.
//     When the stream is opened, output is cut back to exactly what the checkpoint
//     covers, and what is behind it is written again, to other files.
//   - A file is flushed to the disk (fsync), and so is its entry in the directory,
//     before the checkpoint that covers its lines is saved.
//   - An owner that was frozen, was replaced and thaws changes no finished file, and
//     finishes none that the checkpoint does not cover. The file that it may have
//     open is copied by the new owner, as far as the checkpoint covers it. Whether
//     it is open is known from an advisory lock (flock); without locks, the file is
//     copied at each start. On a network file system, the locks must reach all
//     machines that may own the stream.
//   - A write that fails (a full disk, a quota) is taken back and tried again, for as
//     long as it takes. A flush that fails is never repeated on the same file, because
//     the kernel may have dropped the data and report success the next time: the
//     stream goes back to its checkpoint.
//   - A file that was removed, replaced or changed by somebody else while it is
//     written, and a directory that was removed or moved away, is found before the
//     next checkpoint is saved. The stream goes back to its checkpoint, and what that
//     covers of the file is written again from the file that is still open. A
//     directory is made again only on the file system where it was.
//
// The guarantee needs the lease, which keeps two owners of a stream apart. Without
// one (LeaseTTL off) a second process on the same machine is refused while the first
// has a file open.
//
// What a consumer does with a file outside of this directory is its own: if the power
// fails within moments after a file was finished, the file may have its partial name
// again, and is finished again, with the same name and the same contents.
//
// MongoDB 4.0 gives a dropDatabase and its invalidate the same _id. Otherwise no two
// lines have the same.
//
// # Refusals
//
// Where output and checkpoint disagree, the stream is not opened, with a
// [rigatoni.OutputError] that has the facts:
//
//   - [rigatoni.ErrOutputExists]: there is output, or was, and no checkpoint. It looks
//     as if the checkpoint had been lost.
//   - [rigatoni.ErrOutputAhead]: finished files hold events that the checkpoint does
//     not cover, as when an old one was restored. A consumer would see them twice.
//     Known from the hidden file, also when consumers have taken the files.
//   - [ErrOutputMissing]: a file with events that the checkpoint covers is gone, or
//     shorter, although it was not finished.
//
// Only regular files are opened. What else has the name of one, a symbolic link say, is
// an error that names it. So is a directory that can't be written, when the stream is
// opened.
//
// Config.AcceptOutput accepts such a case, once, by its code. Output that is
// accepted without a checkpoint is finished as it is, whole lines of it.
package ndjson
