// Package dbcampaign tests destinations that take events and checkpoint in one
// transaction, the way a user would find out: it writes changes to MongoDB, in
// transactions and without, has two processes of "rigatoni run" compete for the
// stream, kills and freezes them, kills the destination's server, and at the end
// compares what the destination has with what was written.
package dbcampaign
