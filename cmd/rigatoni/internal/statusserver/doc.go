// Package statusserver serves what a pipeline does over HTTP: to Prometheus, to
// whoever starts and stops processes, and to people.
//
//	/         a page for people
//	/status   the same as JSON
//	/readyz   whether the pipeline does its work, and if not, why
//	/healthz  whether the process works
//	/metrics  for Prometheus
//
// It answers GET and HEAD, changes nothing, shows nothing secret, and no answer has
// more than [maxStreams] streams.
package statusserver
