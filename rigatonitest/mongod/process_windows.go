package mongod

import "syscall"

// Windows has no such signals. Start returns an error there; this file is for
// programs that link the package.
const sigStop, sigCont = syscall.Signal(-1), syscall.Signal(-1)

func childAttr() *syscall.SysProcAttr { return nil }

func apartAttr() *syscall.SysProcAttr { return nil }

func awaitStop(int) error { return nil }
