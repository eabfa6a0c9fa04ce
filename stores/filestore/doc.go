// Package filestore keeps checkpoints in files, one for each key, in a directory
// of their own. A save is one write in place and one flush, which is the least
// that a disk allows.
//
//	store, err := filestore.Open("./state", nil)
//
// # What it guarantees
//
// When Save returns nil, the checkpoint has been written and the disk has been
// told to keep it (fdatasync): it survives the process, the kernel and the power.
// When Save fails, or the machine stops in the middle of it, the file has the old
// checkpoint or the new one. A flush that failed is never tried again on the same
// file, because the kernel may have thrown the data away and call the second one a
// success: the file is written anew instead.
//
// Only a file that isn't there means [state.ErrNotFound]. A file that is empty, cut
// short, edited, another key's, a link or a directory is a [state.ErrCorrupt] with
// its path and what to do about it, and stays as it is. Where only the last save is
// damaged, as a crash in the middle of it leaves it, the one before is taken, with a
// warning in the log; what was delivered between the two is then delivered again.
//
// # What a person finds
//
// The file of the key "shop" is shop.json: two lines of JSON, the last two records.
// The one with the greater generation is in force:
//
//	jq -s 'max_by(.generation)' state/shop.json
//
// The fields are those of [record.Record.AppendJSON], and three more: generation, key
// and checksum. Both lines are filled up with spaces to the same length, so that a
// save can overwrite one of them while the other stays whole; format.go in this
// package says it to the byte. A file that was edited by hand is refused, by its
// checksum. To move a place, use this package (Load, change, Save) or the rigatoni
// command; to let a stream start anew, remove its file while nothing runs.
//
// In the name of a file, small letters, digits, "-", "_" and "." stand for
// themselves, and all else for its bytes in the manner of URLs: shop/Orders is
// shop%2f%4frders.json. So keys that differ only in case, or in how an accent is
// written, never meet, on whatever file system. A name that would be too long ends
// in a hash.
//
// Beside it lies shop.lock. It is never removed, says who holds the lease, and is
// empty when nobody does. A store that holds leases has a file of its own there,
// .session. and sixteen digits, for as long as it is open. The directory is made with
// mode 0700 and files with 0600; a directory that is there already keeps the mode that
// it has.
//
// # Leases
//
// A lease lives by a lock of the operating system (flock): each [Store] holds one, on
// its session's file, and the lock file of a key names the session that has its lease.
// So a lease lives as long as the store that took it, or its process, whichever ends
// first: no time to live, no renewal that comes too late, and no way to take it from a
// process that is alive ([state.LeaseRequest] with Steal is refused too: end the
// process instead). [state.HeldError] has the owner's name, and the text of the error
// its process and host. Any number of processes may share a directory, each with any
// number of leases, which hold no files open.
//
// Fences hold beyond the lock: a lease writes a new file into place of the old one,
// so that an owner who lost the lock (somebody removed or changed the lock file, or the
// session's) writes to a file that has no name any more, sees that before it answers,
// and gets [state.ErrFenced].
//
// If the file is removed while its owner lives, the owner writes it anew at the next
// save or renewal; if another is put in its place, the owner's saves are refused
// rather than overwrite it, and so they are, within a second, if it is written to in
// place; if the directory is removed or replaced, they fail with
// [state.ErrUnavailable].
//
// # Saves without a lease
//
// They take the same lock for the moment of the write. On a key that was never
// leased (a program that only keeps its token) they cost one flush, from the second
// one on. On a key that has had a lease, a save without one is a place set by hand:
// it replaces the file, both lines of it, as Acquire and Clear do, so that no damage
// to the last line can bring the place back that was given up.
//
// # Many streams
//
// [Store.SaveBatch] saves any number of streams at little more than the cost of their
// writes: with one flush of the file system (syncfs) for sixteen streams or more, and
// one of the directory where files are made or grow. Goroutines that save different
// streams at the same time share flushes in the same way when there are more than 64 of
// them, and below that by the kernel's own means. That is done
// on ext4 and xfs, and Linux 5.8 or later, where syncfs tells of what could not be
// written; elsewhere each file is flushed by itself, sixteen at a time. syncfs also
// waits for what others have written to the same file system: a directory of
// checkpoints on a disk that is busy with something else is saved at that one's pace. If
// it fails, each save that it was to make durable fails, and the next one writes its
// file anew.
//
// What a save costs doesn't depend on how many streams there are. The files of those
// that were saved last stay open, up to an eighth of what the process may have open
// (ulimit -n), and at most 16,384, and twice as many more while a batch is saved; a save
// of a stream whose file is closed takes some microseconds more. A
// key that is in use takes a few hundred bytes of memory and its checkpoint.
//
// # Limits
//
// The file system must be a local one that keeps its word: ext4, xfs, btrfs, zfs, APFS
// and NTFS do. ext4 and xfs are the two on which the power was cut, thousands of times;
// see the campaigns in the Makefile. Some options of ext4 did not keep its word there,
// with any program: inline_data and fast_commit (such a file system could not always be
// mounted again), no journal, and data=journal on a disk that fails to write.
//
// On a network file system a single machine at a time is what holds. NFS (version 4, or 3
// with its lock daemon) has flock between machines on Linux, so that a lease is seen
// elsewhere; but a client that loses touch with the server may lose its lock without
// learning of it, after which two machines hold one lease until the old one's next save,
// which the fence refuses provided that the client then asks the server who has the
// file's name (mount it with lookupcache=none, or actimeo=0). "Durable" is what the server
// makes of it (not with the export option async), and a file is replaced by
// renaming, which leaves readers elsewhere the old one for as long as they cache names.
// SMB depends on both ends. Where two machines are to take over from each other, use a
// store that is made for it: Redis, or a database.
//
// overlayfs is fine where the directory is a volume. tmpfs forgets everything when the
// machine restarts. A disk that acknowledges a flush that it didn't do can lose the
// last saves, which no program can see.
//
// On Linux a flush is fdatasync; on macOS it is F_FULLFSYNC, which is far slower; on
// Windows it is FlushFileBuffers, directories are not flushed (NTFS logs their
// changes), and a reader that has the file open at the moment at which it is
// replaced makes that save fail with [state.ErrUnavailable]. Power cuts and kills are
// tested on Linux alone.
//
// A record may have up to 64 MiB.
package filestore
