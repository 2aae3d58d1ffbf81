// Package parts has the real parts that tests and the demo run
// against: a Distribution registry in this process, released registries and
// S3 servers as processes, content pushed by a real client, and trees written by
// hand for what no client makes.
//
// There are no fakes here. A collector that is wrong about what a registry
// writes loses images, and a fake would share its author's mistake. The program
// itself never imports this package.
package parts
