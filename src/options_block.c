/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The value of --block=: see options.h.
 *
 * A file, and what there is to say about it, with commas between. A comma in the
 * name of the file itself is written twice.
 *
 * Tour 1.100: What the user said of a disk
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/*
 * Ends the file's name, which begins at `text`, and turns its double commas into single ones.
 * The first word after it, or NULL.
 */
static char *cut_file(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (*text == ',' && *++text != ',') {
			*to = '\0';
			return text;
		}
		*to++ = *text;
	}
	*to = '\0';
	return NULL;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (!isascii(*text) || !isprint(*text))
			return false;
	return true;
}

static int set_id(struct disk_options *disk, const char *id, struct problem *why)
{
	const size_t length = strlen(id);

	if (disk->id)
		return problem(why, EINVAL, "--block=%s: id= is there twice", disk->file);
	if (!length || length > DISK_ID_MAX)
		return problem(why, EINVAL, "--block=%s: id=%s: must have 1 to %u characters",
			       disk->file, id, DISK_ID_MAX);
	if (!is_printable(id))
		return problem(why, EINVAL, "--block=%s: id=%s: must be printable ASCII",
			       disk->file, id);
	disk->id = id;
	return 0;
}

static int set_word(const struct disk_options *disk, const char *word, bool *set,
		    struct problem *why)
{
	if (*set)
		return problem(why, EINVAL, "--block=%s: %s is there twice", disk->file, word);
	*set = true;
	return 0;
}

static int take_word(struct disk_options *disk, const char *word, struct problem *why)
{
	if (!strcmp(word, "ro"))
		return set_word(disk, word, &disk->read_only, why);
	if (!strcmp(word, "direct"))
		return set_word(disk, word, &disk->direct, why);
	if (!strncmp(word, "id=", strlen("id=")))
		return set_id(disk, word + strlen("id="), why);
	return problem(why, EINVAL,
		       "--block=%s: \"%s\" is none of ro, id=NAME and direct (a comma in the name "
		       "of a file is written twice)",
		       disk->file, word);
}

int options_parse_disk(struct disk_options *disk, char *text, struct problem *why)
{
	char *rest = cut_file(text);
	char *word;
	int err = 0;

	*disk = (struct disk_options){.file = text};
	if (!*text)
		return problem(why, EINVAL, "--block=: wants a file or a block device");
	while (!err && (word = strsep(&rest, ",")))
		err = take_word(disk, word, why);
	return err;
}
