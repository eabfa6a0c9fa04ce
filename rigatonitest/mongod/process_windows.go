package mongod

import "syscall"

// Windows has no such signals. Start refuses to run there; this is so that
// programs that link the package build.
const sigStop, sigCont = syscall.Signal(-1), syscall.Signal(-1)

func childAttr() *syscall.SysProcAttr { return nil }

func apartAttr() *syscall.SysProcAttr { return nil }

func awaitStop(int) error { return nil }
