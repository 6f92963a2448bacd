/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock, by its three system calls: see landlock.h.
 *
 * Each version of its interface knows more to forbid, and refuses what it does not know. So
 * the kernel is asked for its version, and told only of what that has.
 *
 * Tour 7.60
 */
#include "host/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Newer than the headers of the distributions that we are built on: <linux/landlock.h> of Linux
 * 6.12, with the first version of the interface that has each.
 */
#define FS_TRUNCATE	    (1ull << 14) /* 3 */
#define NET_BIND_TCP	    (1ull << 0)	 /* 4 */
#define NET_CONNECT_TCP	    (1ull << 1)	 /* 4 */
#define FS_IOCTL_DEV	    (1ull << 15) /* 5 */
#define SCOPE_ABSTRACT_UNIX (1ull << 0)	 /* 6 */
#define SCOPE_SIGNAL	    (1ull << 1)	 /* 6 */

#define FS_VERSION_1 (LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1) /* all up to that */

/* struct landlock_ruleset_attr; older kernels take it as long as the rest is zero. */
struct ruleset {
	u64 handled_access_fs, handled_access_net, scoped;
};

/*
 * All that this version of Landlock knows how to forbid.
 *
 * Tour 7.61
 */
static struct ruleset everything(int version)
{
	struct ruleset rules = {.handled_access_fs = FS_VERSION_1};

	if (version >= 2)
		rules.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		rules.handled_access_fs |= FS_TRUNCATE;
	if (version >= 4)
		rules.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (version >= 5)
		rules.handled_access_fs |= FS_IOCTL_DEV;
	if (version >= 6)
		rules.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	return rules;
}

static int allow(int rules, int beneath_fd, u64 access)
{
	const struct landlock_path_beneath_attr beneath = {
		.allowed_access = access,
		.parent_fd = beneath_fd,
	};

	return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0)
		       ? -errno
		       : 0;
}

/* What is not there needs no permission. */
static int allow_reading(int rules, const char *file)
{
	const int fd = open(file, O_PATH | O_CLOEXEC);
	int err;

	if (fd < 0)
		return 0;
	err = allow(rules, fd, LANDLOCK_ACCESS_FS_READ_FILE);
	close(fd);
	return err;
}

int landlock_rules(enum landlock_network network, const char *readable, int folder)
{
	int version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset all;
	int rules, err = 0;

	if (version < 0)
		return errno == ENOSYS ? -EOPNOTSUPP : -errno;
	all = everything(version);
	if (network == LANDLOCK_NETWORK)
		all.handled_access_net = 0;
	rules = syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules < 0)
		return -errno;
	if (readable)
		err = allow_reading(rules, readable);
	if (!err && folder >= 0)
		err = allow(rules, folder, LANDLOCK_ACCESS_FS_REMOVE_FILE);
	if (err)
		close(rules);
	return err ? err : rules;
}

int landlock_enter(int rules)
{
	return syscall(SYS_landlock_restrict_self, rules, 0) ? -errno : 0;
}
