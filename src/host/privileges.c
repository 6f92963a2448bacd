/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another user, another root: see privileges.h.
 *
 * All questions are asked first, while the user can still be told and nothing has
 * been made. The directory is opened then, too: what it is called may be something else's
 * name by the time it is entered.
 *
 * Tour 7.80
 */
#include "host/privileges.h"

#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set_capabilities(const struct __user_cap_data_struct *sets)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capset, &header, sets) ? -errno : 0;
}

static bool may(unsigned capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	return !syscall(SYS_capget, &header, sets) &&
	       sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

/*
 * A name, not a number: a number does not say which group. Only what the user database says is
 * ours to use.
 */
static int find_user(struct privileges *privileges, struct problem *why)
{
	const struct passwd *user;

	errno = 0;
	user = getpwnam(privileges->username);
	if (!user && errno && errno != ENOENT)
		return problem(why, errno, "--username=%s: cannot look that user up: %s",
			       privileges->username, strerror(errno));
	if (!user)
		return problem(why, ENOENT, "--username=%s: there is no such user",
			       privileges->username);
	if (!may(CAP_SETUID) || !may(CAP_SETGID))
		return problem(why, EPERM,
			       "--username=%s: only root can become another user; run lguest as "
			       "that user instead",
			       privileges->username);
	privileges->uid = user->pw_uid;
	privileges->gid = user->pw_gid;
	return 0;
}

static int find_root(struct privileges *privileges, struct problem *why)
{
	privileges->root_fd = open(privileges->chroot, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (privileges->root_fd < 0)
		return problem(why, errno, "--chroot=%s: cannot open that directory: %s",
			       privileges->chroot, strerror(errno));
	if (!may(CAP_SYS_CHROOT)) {
		privileges_release(privileges);
		return problem(why, EPERM, "--chroot=%s: only root can have another root directory",
			       privileges->chroot);
	}
	return 0;
}

int privileges_find(struct privileges *privileges, const char *username, const char *chroot,
		    struct problem *why)
{
	int err = 0;

	*privileges = (struct privileges){.username = username, .chroot = chroot, .root_fd = -1};
	if (username)
		err = find_user(privileges, why);
	if (!err && chroot)
		err = find_root(privileges, why);
	return err;
}

void privileges_release(struct privileges *privileges)
{
	if (privileges->root_fd >= 0)
		close(privileges->root_fd);
	privileges->root_fd = -1;
}

/*
 * Into it first: then we are at the new root, and not outside.
 *
 * Tour 7.81, 3 items
 */
static int enter_root(struct privileges *privileges, struct problem *why)
{
	if (fchdir(privileges->root_fd) || chroot("."))
		return problem(why, errno, "--chroot=%s: cannot make it the root directory: %s",
			       privileges->chroot, strerror(errno));
	log_verbose("%s is the root directory now", privileges->chroot);
	privileges_release(privileges);
	return 0;
}

/* No group but the user's own: whatever the others were good for is open by now. */
static int become_user(const struct privileges *privileges, struct problem *why)
{
	const uid_t uid = privileges->uid;
	const gid_t gid = privileges->gid;

	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return problem(why, errno, "--username=%s: cannot become that user: %s",
			       privileges->username, strerror(errno));
	log_verbose("privileges dropped: user %s (%u), group %u, no supplementary groups",
		    privileges->username, uid, gid);
	return 0;
}

int privileges_drop(struct privileges *privileges, struct problem *why)
{
	int err = 0;

	if (privileges->chroot)
		err = enter_root(privileges, why);
	if (!err && privileges->username)
		err = become_user(privileges, why);
	return err;
}

int privileges_drop_capabilities(void)
{
	static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	return set_capabilities(none);
}
