/*
 * aws_process: runs the credential_process of a profile.
 *
 * Called by aws_fetch. No shell: the command is cut at blanks, quotes and backslashes keep them. It
 * inherits standard error and the environment, gets no input, and has a minute.
 */
#ifndef DK_PROVIDER_AWS_PROCESS_H
#define DK_PROVIDER_AWS_PROCESS_H

#include "base/bytes.h"

#define DK_AWS_PROCESS_SECONDS 60
/*
 * What it printed, into `out`, whose ceiling is the most that it may. E_CONFIG: it cannot be run.
 * E_PROVIDER: it failed, or printed more. E_UNREACHABLE: it did not end in time, and was killed.
 */
DK_MUST_USE dk_rc dk_aws_process_run(const char *command, int seconds, struct dk_buf *out,
                                     struct dk_err *err);

#define DK_AWS_WORDS 32
/* The words of a command, into `text` (as long as the command and its NUL); their number, 0 = none,
   or too many, or a quote is not closed. words[] ends with NULL. */
size_t dk_aws_process_words(const char *command, char *text, char *words[static DK_AWS_WORDS + 1]);

#endif
