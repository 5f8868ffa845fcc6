// The smallest program outside libgpt's tree: continues a text with a checkpoint, and catches what goes wrong.
//   consumer MODEL_DIR TEXT
#include <gpt/gpt.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: consumer MODEL_DIR TEXT\n";
    return 2;
  }
  try {
    const gpt::Model model = gpt::Model::load(argv[1]);
    const gpt::Generator generator(model);
    for (const gpt::Piece& piece : generator.stream(argv[2], {.max_new_tokens = 40})) std::cout << piece.text;
    std::cout << '\n';
  } catch (const gpt::Error& e) {
    std::cerr << "error: " << e.what() << '\n';
    return 1;
  }
}
