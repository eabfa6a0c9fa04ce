// Package filestore keeps checkpoints in files, one for each key, in a directory. A
// save is one write in place and one flush, the minimum for a disk.
//
//	store, err := filestore.Open("./state", nil)
//
// # Durability
//
// When Save returns nil, the checkpoint has been written and flushed to the disk
// (fdatasync): it survives the end of the process, of the kernel and of the power
// supply. When Save fails, or the machine stops during it, the file has the old
// checkpoint or the new one. A flush that failed is never retried on the same file,
// because the kernel may have dropped the data and report the second flush as a
// success: the store writes a new file instead.
//
// Only a missing file means [state.ErrNotFound]. A file that is empty, truncated,
// edited, another key's, a link or a directory is a [state.ErrCorrupt], with its path
// and advice, and stays unchanged. If only the last save is damaged, as after a crash
// during it, the one before is used, with a warning in the log; the events between the
// two are then redelivered.
//
// # Files
//
// The file of the key "shop" is shop.json: two lines of JSON, the last two records.
// The one with the greater generation is valid:
//
//	jq -s 'max_by(.generation)' state/shop.json
//
// The fields are those of [record.Record.AppendJSON] and generation, key and checksum.
// Both lines are padded with spaces to the same length, so that a save can overwrite
// one of them while the other stays intact; format.go in this package specifies the
// format. A file that was edited by hand is refused, by its checksum. To move a
// checkpoint, use this package (Load, change, Save) or the rigatoni command; to start a
// stream from the beginning, remove its file while nothing runs.
//
// In the name of a file, lower-case letters, digits, "-", "_" and "." stand for
// themselves, and other bytes are %-encoded as in URLs: shop/Orders is
// shop%2f%4frders.json. So keys that differ only in case, or in the encoding of an
// accent, have different files on every file system. A name that would be too long
// ends in a hash.
//
// Beside it is shop.lock, which names the owner of the lease, and is empty if there is
// none. It is never removed. A store that holds leases has a file .session. and
// sixteen digits while it is open. The directory is created with mode 0700 and files
// with 0600; an existing directory keeps its mode.
//
// # Leases
//
// A lease depends on a lock of the operating system (flock): each [Store] holds one on
// its session file, and the lock file of a key names the session that has the lease.
// So a lease lasts until its store is closed or its process ends, whichever is first:
// it has no time to live, no renewal can be late, and it can't be taken from a live
// process ([state.LeaseRequest] with Steal is refused; end the process instead).
// [state.HeldError] has the owner's name, and its message the process and host. Any
// number of processes may share a directory, each with any number of leases; leases
// keep no files open.
//
// Fences hold independently of the lock. Acquire replaces the file by a new one, so an
// owner that lost the lock (somebody removed or changed the lock file, or that of the
// session) writes to a file that no longer has a name, notices that before it returns,
// and returns [state.ErrFenced].
//
// If the file is removed under a live lease, the owner writes it again at the next
// save or renewal. If it is replaced by another one, the owner's saves are refused;
// likewise, within a second, if it is changed in place. If the directory is removed or
// replaced, saves fail with [state.ErrUnavailable].
//
// # Saves without a lease
//
// They hold the same lock during the write. For a key that was never leased (a program
// that only keeps its token) they cost one flush, after the first one. For a key that
// has had a lease, a save without one sets a checkpoint by hand: it replaces the file
// with both of its lines, as Acquire and Clear do, so that no damage to the last line
// can bring back the previous checkpoint.
//
// # Many streams
//
// [Store.SaveBatch] saves any number of streams at little more than the cost of their
// writes: with one flush of the file system (syncfs) for sixteen streams or more, and
// one of the directory if files are created or grow. More than 64 goroutines that save
// different streams at the same time share flushes in the same way; for fewer the
// kernel combines them. This requires ext4 or xfs, and Linux 5.8 or later, where syncfs
// reports write errors; elsewhere each file is flushed by itself, sixteen at a time.
// syncfs also waits for data that others have written to the same file system, so on a
// busy disk, saves are as slow as that. If syncfs fails, every save that relied on it
// fails, and the next one writes a new file.
//
// The cost of a save doesn't depend on the number of streams. The files of the streams
// saved last stay open: up to an eighth of the process's limit of open files (ulimit
// -n) and at most 16,384, and up to three times as many during a batch. A save of a
// stream whose file is closed takes a few microseconds more. A key in use takes a few
// hundred bytes of memory and its checkpoint.
//
// # Limits
//
// The file system must be local and reliable: ext4, xfs, btrfs, zfs, APFS and NTFS
// are. ext4 and xfs were tested with thousands of power cuts; see the campaigns in the
// Makefile. Some options of ext4 lost data there, with any program: inline_data and
// fast_commit (some of these file systems could not be mounted again), no journal, and
// data=journal on a disk that fails to write.
//
// Use a network file system from one machine at a time. NFS (version 4, or 3 with its
// lock daemon) supports flock between machines on Linux, so that others see a lease.
// But a client that is disconnected from the server may lose its lock without
// noticing. Then two machines hold one lease until the old one's next save, which the
// fence refuses if the client then asks the server which file has the name (mount it
// with lookupcache=none or actimeo=0). Durability is the server's (don't use the
// export option async). A file is replaced by renaming, so readers on other machines
// see the old one while they cache names. SMB depends on both ends. For failover
// between machines use a store that is made for it: Redis, or a database.
//
// overlayfs is fine if the directory is a volume. tmpfs loses everything when the
// machine restarts. A disk that acknowledges a flush without executing it can lose the
// last saves, which no program can detect.
//
// On Linux a flush is fdatasync; on macOS it is F_FULLFSYNC, which is much slower; on
// Windows it is FlushFileBuffers, directories are not flushed (NTFS logs their
// changes), and a reader that has the file open while it is replaced makes that save
// fail with [state.ErrUnavailable]. Power cuts and kills are tested on Linux only.
//
// A record may have up to 64 MiB.
package filestore
